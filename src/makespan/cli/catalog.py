"""`makespan catalog list|show`."""

from __future__ import annotations

import click

from makespan.cli.options import console, emit_json, json_option, usage_problem


@click.group()
def catalog() -> None:
    """Facts about accelerators, nodes, fabrics, models, frameworks and clouds, each with its source."""


@catalog.command("list")
@click.argument("kind", required=False)
@json_option
def list_(kind: str | None, as_json: bool) -> None:
    """List the names in the catalog, all kinds or one KIND (accelerator, node, fabric, model, ...)."""
    from makespan import catalog as facts

    kinds = list(facts.kinds())
    if kind is not None and kind.rstrip("s") not in [k.rstrip("s") for k in kinds]:
        raise usage_problem("KIND", f"'{kind}'", f"one of {', '.join(kinds)}", "leave it out to list everything")
    chosen = [k for k in kinds if kind is None or k.rstrip("s") == kind.rstrip("s")]
    if as_json:
        emit_json({k: facts.names(k) for k in chosen})
        return
    for k in chosen:
        click.echo(f"{k}:")
        for name in facts.names(k):
            click.echo(f"  {name}")


@catalog.command()
@click.argument("name")
@json_option
def show(name: str, as_json: bool) -> None:
    """Show every fact of NAME with its value, range, kind and source."""
    from makespan import catalog as facts

    found = [(kind, facts.entry(kind, name)) for kind in facts.kinds() if name in facts.names(kind)]
    if not found:
        near = [n for kind in facts.kinds() for n in facts.suggest(kind, name)]
        hint = "did you mean " + ", ".join(f"'{n}'" for n in near[:3]) + "?" if near else "see 'makespan catalog list'"
        raise usage_problem("NAME", f"'{name}'", "a name in the catalog", hint)
    if as_json:
        emit_json([_plain(kind, entry) for kind, entry in found])
        return
    from rich.table import Table

    out = console()
    for kind, entry in found:
        table = Table(title=f"{kind} {name}", title_justify="left", caption=entry.note or None, caption_justify="left")
        for heading in ("fact", "value", "range", "kind", "source"):
            table.add_column(heading, overflow="fold")
        for fact in entry.facts:
            span = f"{fact.low} to {fact.high}" if fact.low else ""
            origin = f"{fact.source.title} ({fact.source.date})" if fact.source else fact.why
            where = f"; {fact.where}" if fact.where else ""
            table.add_row(fact.path.split(f"{name}.", 1)[-1], fact.text, span, fact.kind.name.lower(), origin + where)
        out.print(table)


def _plain(kind: str, entry: object) -> dict[str, object]:
    facts = getattr(entry, "facts", ())
    return {
        "kind": kind,
        "name": getattr(entry, "name", ""),
        "note": getattr(entry, "note", ""),
        "facts": [
            {
                "path": fact.path,
                "value": fact.text,
                "low": fact.low or None,
                "high": fact.high or None,
                "kind": fact.kind.name.lower(),
                "source": None
                if fact.source is None
                else {
                    "key": fact.source.key,
                    "title": fact.source.title,
                    "publisher": fact.source.publisher,
                    "date": fact.source.date.isoformat(),
                    "url": fact.source.url,
                },
                "where": fact.where,
                "how": fact.how,
                "why": fact.why,
                "known_on": fact.known_on.isoformat() if fact.known_on else None,
            }
            for fact in facts
        ],
    }
