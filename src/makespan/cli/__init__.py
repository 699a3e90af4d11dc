"""Command line: thin doors that parse, call a room and hand its answer to `report`."""
