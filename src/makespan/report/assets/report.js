// Charts of a makespan report. Reads the data of result.json from the page; formats follow report/formats.py.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const options = data.options;
  const DAY = 86400e3, GWH = 3.6e12;
  const start = Date.parse(data.scenario.as_of + "T00:00:00Z");
  const phone = () => window.innerWidth < 760;
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(" ");

  // ---- numbers as people read them --------------------------------------------------------------------------------
  const missing = (x) => x === null || x === undefined || !Number.isFinite(x);
  function significant(x, digits = 3) {
    if (x === 0) return "0";
    let decimals = Math.max(0, digits - 1 - Math.floor(Math.log10(Math.abs(x))));
    const rounded = Number(x.toFixed(Math.min(decimals, 20)));
    if (rounded && Math.floor(Math.log10(Math.abs(rounded))) > Math.floor(Math.log10(Math.abs(x)))) decimals = Math.max(0, decimals - 1);
    return x.toLocaleString("en-US", { minimumFractionDigits: decimals, maximumFractionDigits: decimals });
  }
  function scaled(x, scales) {
    for (const [factor, unit] of scales) if (Math.abs(x) / factor >= 0.9995) return [significant(x / factor), unit];
    const [factor, unit] = scales[scales.length - 1];
    return [significant(x / factor), unit];
  }
  const format = {
    count: (x) => missing(x) ? "–" : Math.round(x).toLocaleString("en-US"),
    money: (x) => {
      if (missing(x)) return "–";
      if (Math.abs(x) < 0.5) return "$0";
      const [text, unit] = scaled(Math.abs(x), [[1e9, "B"], [1e6, "M"], [1e3, "k"], [1, ""]]);
      return (x < 0 ? "−" : "") + "$" + text + unit;
    },
    energy: (x) => missing(x) ? "–" : x === 0 ? "0 GWh" : scaled(x, [[GWH, "GWh"], [GWH / 1e3, "MWh"], [GWH / 1e6, "kWh"]]).join(" "),
    power: (x) => missing(x) ? "–" : x === 0 ? "0 MW" : scaled(x, [[1e6, "MW"], [1e3, "kW"], [1, "W"]]).join(" "),
    size: (x) => missing(x) ? "–" : scaled(x, [[1e12, "TB"], [1e9, "GB"], [1e6, "MB"], [1e3, "kB"], [1, "B"]]).join(" "),
    gib: (x) => missing(x) ? "–" : (x / 2 ** 30).toLocaleString("en-US", { minimumFractionDigits: 1, maximumFractionDigits: 1 }) + " GiB",
    share: (x) => missing(x) ? "–" : x > 0 && x < 0.005 ? "<1 %" : x >= 0.995 && x < 1 ? ">99 %" : (x * 100).toFixed(0) + " %",
    date: (x) => {
      if (x === null || x === undefined) return "never";
      const day = new Date(typeof x === "string" ? Date.parse(x + "T00:00:00Z") : x);
      return `${day.getUTCDate()} ${MONTHS[day.getUTCMonth()]} ${day.getUTCFullYear()}`;
    },
    days: (x) => {
      if (missing(x)) return "–";
      const number = Math.round(Math.abs(x) / 86400);
      return number === 0 ? "under a day" : number.toLocaleString("en-US") + (number === 1 ? " day" : " days");
    },
    duration: (x) => {
      if (missing(x)) return "–";
      const size = Math.abs(x), sign = x < 0 ? "−" : "", year = 31557600;
      if (size === 0) return "0 s";
      if (size >= 9.95 * 86400 && size < 2 * year) return sign + Math.round(size / 86400).toLocaleString("en-US") + " days";
      for (const [least, unit, by] of [[2 * year, "years", year], [172800, "days", 86400], [3600, "h", 3600], [60, "min", 60], [1, "s", 1], [1e-3, "ms", 1e-3]])
        if (size >= 0.9995 * least) return sign + significant(size / by) + " " + unit;
      return sign + significant(size * 1e6) + " µs";
    },
  };
  const iso = (text) => text === null ? null : Date.parse(text + "T00:00:00Z");
  const escape = (text) => String(text).replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);
  const word = (table, name) => (data.labels[table] || {})[name] || name.replace(/_/g, " ").replace(/\./g, ": ");
  const axisMoney = (x) => format.money(x).replace(/(\.\d*?)0+(?=[A-Za-z]?$)/, "$1").replace(/\.(?=[A-Za-z]?$)/, "");
  const axisDate = (x) => {
    const day = new Date(x);
    return `${MONTHS[day.getUTCMonth()]} ${day.getUTCFullYear()}`;
  };

  // ---- common parts ------------------------------------------------------------------------------------------------
  const charts = new Map();
  const FONT = getComputedStyle(document.body).fontFamily;
  const colour = (index) => css(`--c${index % 8}`);
  const dash = (index) => index < 8 ? "solid" : "dashed";
  const text = (size = 12) => ({ color: css("--soft"), fontSize: size, fontFamily: FONT });
  const axisLine = () => ({ lineStyle: { color: css("--axis") } });
  const splitLine = () => ({ lineStyle: { color: css("--line") } });
  const tooltip = (more) => ({
    confine: true, backgroundColor: css("--card"), borderColor: css("--line"),
    textStyle: { color: css("--ink"), fontSize: 12.5 }, ...more,
  });
  const dot = (c) => `<span style="display:inline-block;width:9px;height:9px;border-radius:3px;background:${c};margin-right:5px"></span>`;
  const dateAxis = (extra) => ({
    type: "time", axisLine: axisLine(), splitLine: { show: false }, splitNumber: phone() ? 3 : 6,
    axisLabel: { ...text(), hideOverlap: true, formatter: axisDate }, axisPointer: { label: { formatter: (p) => format.date(p.value) } },
    minInterval: 28 * DAY, ...extra,
  });
  const valueAxis = (write, extra) => ({
    type: "value", axisLine: { show: false }, splitLine: splitLine(), splitNumber: 4, axisLabel: { ...text(), formatter: write, hideOverlap: true }, ...extra,
  });
  // Names of rows: beside the plot, or above each bar on a phone.
  const rowAxis = (names, gap = 8) => ({
    type: "category", data: names, inverse: true, axisTick: { show: false }, axisLine: { show: false },
    axisLabel: phone()
      ? { ...text(11.5), inside: true, margin: 0, align: "left", verticalAlign: "bottom", padding: [0, 0, gap, 0], color: css("--ink"), width: window.innerWidth - 70, overflow: "truncate" }
      : { ...text(12.5), color: css("--ink"), width: 200, overflow: "break", lineHeight: 15 },
    z: 10,
  });
  const rowGrid = (extra) => ({ left: phone() ? 6 : 214, right: 26, top: 10, bottom: 30, ...extra });
  const barHeight = (api, share) => api.size([0, 1])[1] * share;
  const lower = () => phone() ? 8 : 0;  // bars sit below their name on a phone

  // Height of a chart with one row a name: `space` is what axis and legend take.
  function fitRows(id, rows, space, each) {
    const element = document.getElementById(id);
    if (!element) return;
    element.style.height = `${space + rows * (phone() ? Math.max(each, 44) : each)}px`;
    if (charts.has(id)) charts.get(id).resize();
  }

  function draw(id, option) {
    const element = document.getElementById(id);
    if (!element) return;
    let chart = charts.get(id);
    if (!chart) {
      chart = echarts.init(element, null, { renderer: "svg" });
      charts.set(id, chart);
    }
    chart.setOption({ animation: false, textStyle: { fontFamily: FONT }, aria: { enabled: false }, ...option }, { notMerge: true });
  }

  // ---- dates -------------------------------------------------------------------------------------------------------
  const quantile = (option, p) => {
    const found = option.release_quantiles.find((q) => Math.abs(q.probability - p) < 1e-9);
    return found ? iso(found.date) : null;
  };
  const deadline = iso(data.scenario.deadline);
  const deadlineMark = () => deadline === null ? undefined : {
    silent: true, symbol: "none", lineStyle: { color: css("--ink"), type: "dashed", width: 1.2 }, label: { show: false }, data: [{ xAxis: deadline }],
  };
  const observedReleases = () => options.flatMap((option, row) => option.observed
    .filter((seen) => seen.date && seen.what.endsWith("release")).map((seen) => ({ row, at: iso(seen.date), seen })));

  function dateRange() {
    const known = [deadline, start, ...observedReleases().map((seen) => seen.at)];
    for (const option of options) known.push(...option.release_quantiles.map((q) => iso(q.date)));
    const finite = known.filter((x) => x !== null);
    const low = Math.min(...finite), high = Math.max(...finite);
    return [low, high + Math.max((high - low) * 0.06, 20 * DAY)];
  }

  function releaseChart() {
    const [low, high] = dateRange();
    const seen = observedReleases();
    fitRows("chart-release", options.length, 60, 46);
    draw("chart-release", {
      grid: rowGrid({ bottom: 44 }),
      xAxis: dateAxis({ min: low, max: high, splitLine: { show: true, lineStyle: { color: css("--line") } } }),
      yAxis: rowAxis(options.map((option) => option.name)),
      tooltip: tooltip({
        trigger: "item",
        formatter: (p) => {
          if (p.seriesName === "observed") return `<b>${escape(options[p.value[1]].name)}</b><br>happened: ${format.date(p.value[0])}`;
          const band = options[p.dataIndex].completion.release;
          return `<b>${escape(options[p.dataIndex].name)}</b><br>median ${format.date(band.p50)}<br>P10 ${format.date(band.p10)}, P90 ${format.date(band.p90)}<br>finishes at all: ${format.share(band.probability_complete)}`;
        },
      }),
      series: [
        {
          type: "custom", name: "release", clip: true, markLine: deadlineMark(),
          data: options.map((_, row) => [start, row]), encode: { x: -1, y: 1 },
          renderItem: (params, api) => {
            const row = params.dataIndex, band = options[row].completion.release, c = colour(row);
            const x = (t) => api.coord([t === null ? high : t, row])[0];
            const y = api.coord([low, row])[1] + lower(), h = Math.min(barHeight(api, 0.34), 18);
            if (band.p10 === null) {
              return { type: "text", x: api.coord([low, row])[0] + 6, y, style: { text: options[row].completion.release.probability_complete === 0 ? "never" : `done by ${format.date(data.scenario.horizon)} in ${format.share(options[row].completion.release.probability_complete)} of the futures`, fill: css("--soft"), fontSize: 12, verticalAlign: "middle" } };
            }
            const p10 = x(iso(band.p10)), p90 = x(iso(band.p90)), p50 = band.p50 === null ? null : x(iso(band.p50));
            const never = band.p90 === null;
            const fill = never ? new echarts.graphic.LinearGradient(0, 0, 1, 0, [{ offset: 0, color: c }, { offset: 1, color: css("--card") }]) : c;
            const children = [
              { type: "line", shape: { x1: x(quantile(options[row], 0.05)), x2: x(quantile(options[row], 0.95)), y1: y, y2: y }, style: { stroke: c, lineWidth: 2, opacity: never ? 0.3 : 1 } },
              { type: "rect", shape: { x: p10, y: y - h / 2, width: Math.max(p90 - p10, 2), height: h, r: 3 }, style: { fill } },
            ];
            if (p50 !== null) children.push({ type: "rect", shape: { x: p50 - 1.5, y: y - h / 2 - 1, width: 3, height: h + 2 }, style: { fill: css("--card") } });
            return { type: "group", children };
          },
        },
        {
          type: "scatter", name: "observed", symbol: "diamond", symbolSize: 13, symbolOffset: [0, lower()], data: seen.map((s) => [s.at, s.row]),
          itemStyle: { color: css("--ink"), borderColor: css("--card"), borderWidth: 2 }, z: 20,
          label: { show: !phone(), position: "bottom", distance: 5, formatter: (p) => "happened " + format.date(p.value[0]), color: css("--ink"), fontSize: 11 },
        },
      ],
    });
  }

  const oddsAt = (option, t) => option.release_quantiles.filter((q) => q.date !== null && iso(q.date) <= t).length / 100;

  function oddsChart() {
    const [low, high] = dateRange();
    const series = options.map((option, index) => {
      const points = option.release_quantiles.filter((q) => q.date !== null).map((q) => [iso(q.date), q.probability]);
      if (points.length) {
        const done = option.completion.release.probability_complete, last = points[points.length - 1][0];
        points.unshift([low, 0], [points[0][0], 0]);
        points.push([last, Math.max(done, points[points.length - 1][1])], [high, Math.max(done, points[points.length - 1][1])]);
      }
      return {
        type: "line", name: option.name, data: points, showSymbol: false, symbol: "circle", lineStyle: { color: colour(index), width: 2.4, type: dash(index) },
        itemStyle: { color: colour(index) }, markLine: index === 0 ? deadlineMark() : undefined,
      };
    });
    draw("chart-odds", {
      grid: { left: 46, right: 26, top: 12, bottom: 30 },
      xAxis: dateAxis({ min: low, max: high }),
      yAxis: valueAxis((x) => format.share(x), { min: 0, max: 1, interval: 0.25 }),
      tooltip: tooltip({
        trigger: "axis", axisPointer: { type: "line", snap: false, lineStyle: { color: css("--axis") } },
        formatter: (points) => `Released by ${format.date(points[0].axisValue)}<br>` + options.map((option, i) =>
          `${dot(colour(i))}${escape(option.name)}: <b>${format.share(oddsAt(option, points[0].axisValue))}</b>`).join("<br>"),
      }),
      series,
    });
  }

  // ---- over time ---------------------------------------------------------------------------------------------------
  const times = data.times_s.map((s) => start + s * 1e3);
  let zoomEnd = null;

  function bandChart(id, field, write, axisWrite, more = {}) {
    const end = zoomEnd || times[times.length - 1];
    const top = Math.max(0, ...options.flatMap((option) => option.curves[field].p90.filter((v, i) => v !== null && times[i] <= end)));
    // The second point of a band draws nothing: it makes the axis reach the top of every band.
    const bands = more.bands === false ? [] : options.map((option, index) => ({
      type: "custom", silent: true, clip: true, z: 1, data: [[times[0], 0], [times[0], top]], encode: { x: 0, y: 1 }, tooltip: { show: false },
      renderItem: (params, api) => {
        if (params.dataIndex > 0) return null;
        const curve = option.curves[field], points = [];
        times.forEach((t, i) => { if (curve.p90[i] !== null) points.push(api.coord([t, curve.p90[i]])); });
        for (let i = times.length - 1; i >= 0; i--) if (curve.p10[i] !== null) points.push(api.coord([times[i], curve.p10[i]]));
        return { type: "polygon", shape: { points }, style: { fill: colour(index), opacity: 0.13 }, silent: true };
      },
    }));
    const lines = options.map((option, index) => ({
      type: "line", name: option.name, showSymbol: false, symbol: "circle", z: 3, data: times.map((t, i) => [t, option.curves[field].p50[i]]),
      lineStyle: { color: colour(index), width: 2.2, type: dash(index) }, itemStyle: { color: colour(index) },
    }));
    draw(id, {
      grid: { left: phone() ? 46 : 58, right: 18, top: 12, bottom: 30 },
      xAxis: dateAxis({ min: times[0], max: end, splitNumber: phone() ? 3 : 4 }),
      yAxis: valueAxis(axisWrite, { min: 0, max: more.max || (top > 0 ? undefined : 1), interval: more.max === 1 ? 0.25 : undefined }),
      tooltip: tooltip({
        trigger: "axis", axisPointer: { type: "line", lineStyle: { color: css("--axis") } },
        formatter: (points) => {
          const at = points[0].dataIndex;
          const rows = options.map((option, index) => {
            const curve = option.curves[field];
            return `${dot(colour(index))}${escape(option.name)}: <b>${write(curve.p50[at])}</b> ${more.bands === false ? "" : `(${write(curve.p10[at])} – ${write(curve.p90[at])})`}`;
          });
          return `${format.date(times[at])}<br>${rows.join("<br>")}`;
        },
      }),
      series: [...bands, ...lines, ...(more.series || [])],
    });
  }

  function limitLines() {
    const shown = new Set();
    return options.flatMap((option, index) => {
      const limit = option.curves.power_limit_w;
      const key = JSON.stringify(limit && limit.p50);
      if (!limit || shown.has(key)) return [];
      shown.add(key);
      return [{ type: "line", silent: true, showSymbol: false, z: 2, step: "end", data: times.map((t, i) => [t, limit.p50[i]]), lineStyle: { color: colour(index), width: 1.3, type: "dotted" }, tooltip: { show: false } }];
    });
  }

  function timeCharts() {
    const thousands = (x) => x >= 1000 ? significant(x / 1000, 1) + "k" : String(x);
    bandChart("chart-powered", "powered", format.count, thousands);
    bandChart("chart-used", "used", format.count, thousands, { bands: false });
    bandChart("chart-power", "power_w", format.power, (x) => (x / 1e6).toLocaleString("en-US"), { series: limitLines() });
    bandChart("chart-progress", "progress", format.share, format.share, { max: 1 });
  }

  function zoomButtons() {
    const group = document.getElementById("zoom");
    if (!group) return;
    const ends = options.map((option) => iso(option.completion.release.p90)).filter((x) => x !== null).sort((a, b) => a - b);
    const last = times[times.length - 1];
    const choices = [["The whole plan", null]];
    if (ends.length && ends[0] + 30 * DAY < 0.8 * (last - start) + start) choices.push(["Until the first option is done", ends[0] + 30 * DAY]);
    if (last - start > 250 * DAY) choices.push(["First six months", start + 183 * DAY]);
    if (choices.length === 1) return;
    for (const [label, end] of choices) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = label;
      button.setAttribute("aria-pressed", String(end === zoomEnd));
      button.addEventListener("click", () => {
        zoomEnd = end;
        for (const other of group.children) other.setAttribute("aria-pressed", String(other === button));
        timeCharts();
      });
      group.append(button);
    }
  }

  // ---- stacks ------------------------------------------------------------------------------------------------------
  const MOST = 9, REST = "everything_else";
  // Rows are options, pieces are named parts; the same name has the same colour in every row.
  function stackChart(id, rows, table, write, axisWrite, more = {}) {
    const totals = new Map();
    for (const row of rows) for (const [name, value] of row.parts) totals.set(name, (totals.get(name) || 0) + (value || 0));
    let names = (more.order || [...totals.keys()]).filter((name) => totals.get(name) > 0);
    if (!more.order && names.length > MOST) {
      const kept = [...names].sort((a, b) => totals.get(b) - totals.get(a)).slice(0, MOST - 1);
      rows = rows.map((row) => ({
        name: row.name,
        parts: [...row.parts.filter(([name]) => kept.includes(name)), [REST, row.parts.reduce((sum, [name, v]) => sum + (kept.includes(name) ? 0 : v || 0), 0)]],
      }));
      names = [...names.filter((name) => kept.includes(name)), REST];
    }
    if (more.first) names.sort((a, b) => (b === more.first) - (a === more.first));
    const element = document.getElementById(id);
    let legendRows = 1, used = 0;
    for (const name of names) {
      const wide = 34 + 6.6 * word(table, name).length;
      if (used + wide > element.clientWidth && used > 0) { legendRows++; used = 0; }
      used += wide;
    }
    fitRows(id, rows.length, 50 + 20 * legendRows, 40);
    const series = names.map((name, index) => ({
      type: "bar", stack: "all", name: word(table, name), barMaxWidth: phone() ? 14 : 20, barCategoryGap: "40%",
      data: rows.map((row) => (row.parts.find(([part]) => part === name) || [0, 0])[1] || 0),
      itemStyle: { color: css(more.colours && more.colours[name] ? more.colours[name] : name === REST ? "--s9" : `--s${index % 9}`), borderColor: css("--card"), borderWidth: 0.6 },
    }));
    if (series.length && more.marks) series.push({
      type: "custom", name: "limit", tooltip: { show: false }, silent: true, z: 5, encode: { x: 0, y: 1 }, data: more.marks.map((value, row) => [value, row]),
      renderItem: (_, api) => {
        const [x, y] = api.coord([api.value(0), api.value(1)]), h = Math.min(barHeight(api, 0.8), 30);
        return { type: "line", shape: { x1: x, x2: x, y1: y - h / 2, y2: y + h / 2 }, style: { stroke: css("--ink"), lineWidth: 2.5 } };
      },
    });
    draw(id, {
      grid: rowGrid({ top: 16 + 20 * legendRows, left: phone() ? 6 : more.narrow ? 150 : 214 }),
      legend: { top: 0, left: 0, icon: "roundRect", itemWidth: 11, itemHeight: 11, itemGap: 10, textStyle: { ...text(11.5), color: css("--ink") }, data: series.filter((s) => s.name !== "limit").map((s) => s.name) },
      xAxis: valueAxis(axisWrite, { max: more.max, splitNumber: phone() ? 3 : 5, minInterval: more.minInterval }),
      yAxis: { ...rowAxis(rows.map((row) => row.name), 11), ...(more.narrow && !phone() ? { axisLabel: { ...text(12), color: css("--ink"), width: 138, overflow: "break", lineHeight: 14 } } : {}) },
      tooltip: tooltip({
        trigger: "axis", axisPointer: { type: "shadow" },
        formatter: (points) => {
          const real = points.filter((p) => p.seriesName !== "limit");
          if (!real.length) return "";
          const total = real.reduce((sum, p) => sum + p.value, 0);
          const lines = real.filter((p) => p.value > 0).map((p) => `${dot(p.color)}${escape(p.seriesName)}: <b>${write(p.value)}</b>`);
          return `<b>${escape(real[0].name)}</b>: ${write(total)}<br>${lines.join("<br>")}`;
        },
      }),
      series,
    });
  }
  const parts = (field, key, value) => options.map((option) => ({ name: option.name, parts: option[field].map((row) => [row[key], row[value]]) }));

  const LEDGER = {
    productive: "--s0", wait_recipe: "--s9", wait_capacity: "--s6", checkpoint: "--s4", detection: "--s7", restart: "--s1",
    lost_work: "--s3", repair_wait: "--s10", reconfiguration: "--s8", restarted_work: "--s5", calendar_stage: "--s2",
  };
  function lossCharts() {
    const day = (x) => (x / 86400).toLocaleString("en-US", { maximumFractionDigits: 0 });
    stackChart("chart-ledger", parts("ledger", "line", "mean_s").map((row) => ({ ...row, parts: row.parts.map(([n, v]) => [n, v === null ? null : v / 86400]) })),
      "ledger", (x) => format.duration(x * 86400), (x) => x.toLocaleString("en-US"), { order: Object.keys(LEDGER), colours: LEDGER });
    const causes = options.map((option) => ({ name: option.name, parts: option.limited_by.map((row) => [row.cause, row.share]) }));
    stackChart("chart-limits", causes, "cause", format.share, format.share, { max: 1, first: ["compute", "training", "productive"].find((name) => causes.some((row) => row.parts.some(([part]) => part === name))) });
  }

  // ---- the build ---------------------------------------------------------------------------------------------------
  function ganttCharts() {
    const sites = new Map();
    for (const option of options) for (const pool of option.pools) if (pool.milestones.length > 1 && !sites.has(pool.name)) sites.set(pool.name, pool);
    [...sites.values()].forEach((site, index) => {
      const rows = site.milestones;
      const dates = rows.flatMap((row) => [row.start.p50, row.end.p50, row.end.p90]).map(iso).filter((x) => x !== null);
      const low = Math.min(...dates, start), high = Math.max(...dates, start + 30 * DAY) + 10 * DAY;
      fitRows(`chart-gantt-${index}`, rows.length, 40, 26);
      draw(`chart-gantt-${index}`, {
        grid: rowGrid({ top: 4 }),
        xAxis: dateAxis({ min: low, max: high, splitLine: { show: true, lineStyle: { color: css("--line") } } }),
        yAxis: rowAxis(rows.map((row) => row.name)),
        tooltip: tooltip({
          trigger: "item",
          formatter: (p) => {
            const row = rows[p.dataIndex];
            return `<b>${escape(row.name)}</b><br>starts ${format.date(row.start.p50)}<br>ends ${format.date(row.end.p50)} (${format.date(row.end.p10)} – ${format.date(row.end.p90)})<br>decides the date in ${format.share(row.criticality || 0)}`;
          },
        }),
        series: [{
          type: "custom", clip: true, data: rows.map((row, i) => [iso(row.start.p50) || low, i]), encode: { x: -1, y: 1 },
          markLine: { silent: true, symbol: "none", label: { show: false }, lineStyle: { color: css("--axis"), type: "solid" }, data: [{ xAxis: start }] },
          renderItem: (params, api) => {
            const row = rows[params.dataIndex], x = (t) => api.coord([t === null ? high : t, params.dataIndex])[0];
            const y = api.coord([low, params.dataIndex])[1] + lower(), h = Math.min(barHeight(api, 0.5), 14);
            const from = x(iso(row.start.p50)), to = x(iso(row.end.p50)), late = x(iso(row.end.p90));
            return {
              type: "group", children: [
                { type: "line", shape: { x1: from, x2: late, y1: y, y2: y }, style: { stroke: css("--c1"), lineWidth: 2 } },
                { type: "rect", shape: { x: from, y: y - h / 2, width: Math.max(to - from, 3), height: h, r: 2 }, style: { fill: css("--card") } },
                { type: "rect", shape: { x: from, y: y - h / 2, width: Math.max(to - from, 3), height: h, r: 2 }, style: { fill: css("--c1"), opacity: 0.28 + 0.72 * (row.criticality || 0) } },
              ],
            };
          },
        }],
      });
    });
  }

  // ---- machine and money -------------------------------------------------------------------------------------------
  function machineCharts() {
    const having = options.filter((option) => option.step);
    if (!having.length) return;
    stackChart("chart-step", having.map((option) => ({ name: option.name, parts: Object.entries(option.step.breakdown_s).map(([name, s]) => [name, s === null ? null : s / option.step.time_s]) })),
      "step", (x) => (100 * x).toFixed(1) + " %", format.share, { narrow: true, max: 1 });
    stackChart("chart-memory", having.map((option) => ({ name: option.name, parts: Object.entries(option.step.memory_bytes).map(([name, bytes]) => [name, bytes / 2 ** 30]) })), "memory", (x) => x.toFixed(1) + " GiB", (x) => x + " GiB",
      { narrow: true, marks: having.map((option) => option.step.memory_limit_bytes / 2 ** 30) });
  }

  // ---- the pipeline ------------------------------------------------------------------------------------------------
  // One row a rank, one box a pass. A path holds all passes of a rank that look alike, so that a thousand boxes stay light.
  const PASSES = { F: "forward", B: "backward", I: "gradients of inputs", W: "gradients of weights" };
  function node(parent, name, attributes, content) {
    const element = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (content !== undefined) element.textContent = content;
    parent.append(element);
    return element;
  }
  const stageOf = (layout, rank, chunk) => layout.schedule !== "dualpipe" ? chunk * layout.pp + rank : chunk ? layout.pp - 1 - rank : rank;
  function passLength(stage, kind) {
    if (kind === "F") return stage.forward_s;
    return (kind === "W" ? 0 : stage.input_grad_s) + (kind === "I" ? 0 : stage.weight_grad_s);
  }
  function unpacked(pipeline, layout) {
    return pipeline.ranks.map((row) => row.start.map((ticks, i) => {
      const kind = row.passes[i], chunk = row.chunk[i], stage = stageOf(layout, row.rank, chunk), start = ticks * pipeline.tick_s;
      return { kind, chunk, stage, start, end: start + passLength(pipeline.stages[stage], kind), microBatch: row.micro_batch[i] };
    }));
  }
  const roundStep = (span, most) => {
    const power = 10 ** Math.floor(Math.log10(span / most));
    return [1, 2, 5, 10].map((n) => n * power).find((step) => span / step <= most);
  };

  // Where passes are narrow, a button makes them wide enough to be told apart; the drawing then scrolls.
  function enlargeButton(host, wanted, large) {
    const bar = host.previousElementSibling;
    bar.hidden = !wanted;
    if (bar.firstChild === null) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = "Enlarge";
      button.addEventListener("click", () => {
        host.dataset.large = String(host.dataset.large !== "true");
        drawPipeline(host);
      });
      bar.append(button);
    }
    bar.firstChild.setAttribute("aria-pressed", String(large));
  }

  function drawPipeline(host) {
    if (host.closest("[hidden]")) return;
    const pipeline = data.pipelines[host.dataset.pipeline], layout = options[host.dataset.option].layout;
    const rows = unpacked(pipeline, layout), paper = document.documentElement.classList.contains("paper");
    const each = Math.max(11, Math.min(26, Math.floor(360 / rows.length))), high = each - (each > 14 ? 3 : 2), top = 2;
    const gutter = 58, height = top + rows.length * each, span = pipeline.span_s;
    const room = (paper ? Math.min(host.clientWidth, 660) : host.clientWidth) - gutter;
    const most = Math.max(...rows.map((row) => row.length));
    const large = host.dataset.large === "true" && !paper;
    const width = paper ? room : Math.max(room, Math.min(most * (large ? 13 : 2.4), large ? 9000 : 2400));
    enlargeButton(host, large || room < most * 8, large);
    const x = (t) => t / span * (width - 2);
    host.replaceChildren();
    const names = node(host, "svg", { width: gutter, height: height + 18, "aria-hidden": "true" });
    const window_ = document.createElement("div");
    window_.className = "window";
    window_.tabIndex = 0;
    window_.setAttribute("role", "application");
    window_.setAttribute("aria-label", `Pipeline schedule, ${rows.length} ranks. Arrow keys go from pass to pass.`);
    host.append(window_);
    const svg = node(window_, "svg", { width, height: height + 18 });
    const tip = document.createElement("div");
    tip.className = "tip";
    tip.setAttribute("role", "status");
    host.append(tip);

    const step = roundStep(span, Math.max(width / 110, 2)), milli = span < 1;
    for (let t = 0; t <= span * 1.0001; t += step) {
      node(svg, "line", { class: "grid", x1: x(t), x2: x(t), y1: 0, y2: height });
      const digits = Math.max(0, -Math.floor(Math.log10(step * (milli ? 1000 : 1)) + 1e-9));
      const at = x(t), anchor = t === 0 ? "start" : at > width - 24 ? "end" : "middle";
      node(svg, "text", { x: at, y: height + 13, "text-anchor": anchor }, (t * (milli ? 1000 : 1)).toFixed(digits) + (milli ? " ms" : " s"));
    }
    const chunks = layout.schedule === "dualpipe" ? 2 : layout.vpp;
    const strength = (chunk) => chunks > 1 ? 1 - 0.55 * chunk / (chunks - 1) : 1;
    const box = (pass, y) => {
      const from = x(pass.start), wide = x(pass.end) - from;
      return `M${from.toFixed(2)} ${y}h${Math.max(wide - (wide > 5 ? 0.8 : wide > 2 ? 0.35 : 0), 0.25).toFixed(2)}v${high}H${from.toFixed(2)}z`;
    };
    const lettered = (most <= 130 || large) && high >= 12;
    rows.forEach((row, index) => {
      const y = top + index * each;
      if (each >= 13 || index % 2 === 0) node(names, "text", { x: gutter - 8, y: y + high / 2 + 4, "text-anchor": "end" }, `rank ${pipeline.ranks[index].rank}`);
      const group = node(svg, "g", { class: "rank", "data-rank": pipeline.ranks[index].rank });
      node(group, "rect", { class: "lane", x: 0, y, width: width - 2, height: high });
      const shapes = new Map();
      for (const pass of row) if (pass.end > pass.start) {  // a stage without layers has nothing to show
        const key = pass.kind + pass.chunk;
        shapes.set(key, (shapes.get(key) || "") + box(pass, y));
      }
      for (const [key, d] of shapes) node(group, "path", { class: key[0], d, "fill-opacity": strength(key.slice(1)).toFixed(2) });
      if (lettered) for (const pass of row) {
        const wide = x(pass.end) - x(pass.start);
        if (wide >= 2 + 6 * String(pass.microBatch).length) node(group, "text", { class: `name ${pass.kind}${strength(pass.chunk) < 0.7 ? " faint" : ""}`, x: x(pass.start) + wide / 2, y: y + high / 2 + 3.5 }, pass.microBatch);
      }
    });
    const way = node(svg, "path", { class: "way", d: "" }), chosen = node(svg, "path", { class: "chosen", d: "" });

    let at = null;  // [row, index] of the pass that the keys are on
    const clear = () => { at = null; tip.textContent = ""; way.setAttribute("d", ""); chosen.setAttribute("d", ""); };
    const clock = (t) => milli ? `${(t * 1e3).toFixed(2)} ms` : `${t.toFixed(3)} s`;
    const bold = (text) => { const b = document.createElement("b"); b.textContent = text; return b; };
    function show(index, found) {
      const row = rows[index], pass = row[found], y = top + index * each, rank = pipeline.ranks[index].rank;
      at = [index, found];
      const stage = pipeline.stages[pass.stage], last = pass.stage === pipeline.stages.length - 1;
      const layers = `${stage.num_layers} ${stage.num_layers === 1 ? "layer" : "layers"}${last ? " and the head" : ""}`;
      tip.replaceChildren(bold(`Rank ${rank}: ${PASSES[pass.kind]}, micro-batch ${pass.microBatch}`), document.createElement("br"),
        `stage ${pass.stage}, ${layers}`, document.createElement("br"),
        `${format.duration(pass.end - pass.start)}, from ${clock(pass.start)} to ${clock(pass.end)}`);
      chosen.setAttribute("d", `M${x(pass.start)} ${y}H${x(pass.end)}v${high}H${x(pass.start)}z`);
      way.setAttribute("d", rows.flatMap((other, i) => other.filter((p) => p.microBatch === pass.microBatch).map((p) => `M${x(p.start)} ${top + i * each + high}H${x(p.end)}v1.5H${x(p.start)}z`)).join(""));
      place(x(pass.start), y);
    }
    function idle(index, t) {
      const row = rows[index], next = row.findIndex((pass) => pass.start > t);
      const from = next === 0 ? 0 : (next < 0 ? row[row.length - 1] : row[next - 1]).end, until = next < 0 ? span : row[next].start;
      clear();
      if (until - from <= 0) return;
      tip.replaceChildren(bold(`Rank ${pipeline.ranks[index].rank}: waits ${format.duration(until - from)}`));
      place(x(t), top + index * each);
    }
    function place(left, y) {
      const wanted = gutter + left - window_.scrollLeft;
      tip.style.left = `${Math.max(0, Math.min(wanted, host.clientWidth - tip.offsetWidth))}px`;
      const above = y - tip.offsetHeight - 8;
      tip.style.top = `${above > -60 ? above : y + each + 6}px`;
    }
    function point(event) {
      const frame = svg.getBoundingClientRect(), index = Math.floor((event.clientY - frame.top - top) / each);
      const t = (event.clientX - frame.left) / (width - 2) * span;
      if (index < 0 || index >= rows.length || t < 0 || t > span) return clear();
      const found = rows[index].findIndex((pass) => pass.start <= t && t < pass.end);
      if (found < 0) idle(index, t); else show(index, found);
    }
    svg.addEventListener("pointermove", (event) => { if (event.pointerType === "mouse") point(event); });
    svg.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") clear(); });
    svg.addEventListener("click", point);
    window_.addEventListener("scroll", () => { if (at) show(...at); else tip.textContent = ""; });
    window_.addEventListener("blur", clear);
    window_.addEventListener("keydown", (event) => {
      const moves = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] };
      if (event.key === "Escape") return clear();
      if (!moves[event.key]) return;
      event.preventDefault();
      let [index, found] = at || [0, -1];
      const [down, along] = at ? moves[event.key] : [0, 1];
      if (down) {
        const middle = (rows[index][found].start + rows[index][found].end) / 2;
        index = Math.max(0, Math.min(rows.length - 1, index + down));
        const away = (pass) => Math.max(pass.start - middle, middle - pass.end, 0);
        found = rows[index].reduce((best, pass, i) => away(pass) < away(rows[index][best]) ? i : best, 0);
      } else found = Math.max(0, Math.min(rows[index].length - 1, found + along));
      const pass = rows[index][found];
      if (x(pass.start) < window_.scrollLeft || x(pass.end) > window_.scrollLeft + window_.clientWidth) window_.scrollLeft = x(pass.start) - window_.clientWidth / 3;
      show(index, found);
    });
  }
  const pipelineDrawings = () => document.querySelectorAll(".pipe").forEach(drawPipeline);

  function chooseCloseUp() {
    const select = document.getElementById("close-up-option");
    if (!select) return;
    select.parentElement.hidden = false;
    const pick = () => {
      for (const group of document.querySelectorAll(".close-up")) group.hidden = group.dataset.group !== select.value;
      pipelineDrawings();
    };
    select.addEventListener("change", pick);
    pick();
  }

  function costCharts() {
    stackChart("chart-cost", parts("cost_lines", "line", "mean_usd"), "cost", format.money, axisMoney, { narrow: true });
    const lasts = options.map((option) => option.cash_flow.times_s.length);
    const most = Math.max(...lasts, 1);
    const last = (values) => values.length ? values[values.length - 1] : 0;
    const at = (values, i) => i < values.length ? values[i] : last(values);
    const months = Array.from({ length: most }, (_, i) => start + (i + 1) * 30.4375 * DAY);
    draw("chart-cash", {
      grid: { left: 56, right: 18, top: 12, bottom: 30 },
      xAxis: dateAxis({ min: start, max: months[most - 1], splitNumber: phone() ? 3 : 4 }),
      yAxis: valueAxis(axisMoney, { min: 0 }),
      tooltip: tooltip({
        trigger: "axis", axisPointer: { type: "line" },
        formatter: (points) => format.date(points[0].value[0]) + "<br>" + options.map((option, i) => `${dot(colour(i))}${escape(option.name)}: <b>${format.money(at(option.cash_flow.p50, points[0].dataIndex - 1))}</b>`).join("<br>"),
      }),
      series: options.flatMap((option, index) => [
        { type: "custom", silent: true, clip: true, data: [[start, 0], [start, Math.max(0, ...option.cash_flow.p90)]], encode: { x: 0, y: 1 }, tooltip: { show: false },
          renderItem: (params, api) => params.dataIndex > 0 ? null : ({ type: "polygon", silent: true, style: { fill: colour(index), opacity: 0.14 }, shape: { points: [
            api.coord([start, 0]), ...months.map((t, i) => api.coord([t, at(option.cash_flow.p90, i) || 0])),
            ...months.map((t, i) => api.coord([t, at(option.cash_flow.p10, i) || 0])).reverse()] } }) },
        { type: "line", name: option.name, showSymbol: false, symbol: "circle", data: [[start, 0], ...months.map((t, i) => [t, at(option.cash_flow.p50, i)])],
          lineStyle: { color: colour(index), width: 2.2, type: dash(index) }, itemStyle: { color: colour(index) } },
      ]),
    });
  }

  // ---- what the date depends on ------------------------------------------------------------------------------------
  let leverGroup = 0;
  const leverEnd = (row, side) => (phone() ? side : row[side + "_text"]) + (row["release_at_" + side] === null ? ": never" : "");
  function leverChart() {
    const names = [];
    const select = document.getElementById("lever-option");
    for (const lever of data.levers) if (!names.includes(lever.option)) names.push(lever.option);
    const chosen = select ? select.options[leverGroup].textContent : names[0];
    const index = options.findIndex((option) => option.name === chosen);
    const rows = data.levers.filter((lever) => lever.option === chosen).sort((a, b) => (b.swing_s || 0) - (a.swing_s || 0));
    if (!rows.length) return;
    const middle = iso(options[index].completion.release.p50);
    const end = iso(data.scenario.horizon);
    const at = (row, side) => row["release_at_" + side] === null ? end : iso(row["release_at_" + side]);
    const dates = rows.flatMap((row) => [at(row, "low"), at(row, "high")]).concat(middle === null ? [] : [middle]);
    const width = Math.max(...dates) - Math.min(...dates), pad = Math.max(width * (phone() ? 0.3 : 0.22), 4 * DAY);
    fitRows("chart-levers", rows.length, 44, 36);
    draw("chart-levers", {
      grid: rowGrid({ top: 6 }),
      xAxis: dateAxis({ min: Math.min(...dates) - pad, max: Math.max(...dates) + pad, minInterval: 7 * DAY,
        axisLabel: { ...text(), hideOverlap: true, formatter: width + 2 * pad < 200 * DAY ? format.date : axisDate } }),
      yAxis: rowAxis(rows.map((row) => row.label)),
      tooltip: tooltip({ trigger: "item", formatter: (p) => {
        const row = rows[p.dataIndex];
        return `<b>${escape(row.label)}</b><br>${escape(row.low_text)}: released ${format.date(row.release_at_low)}<br>${escape(row.high_text)}: released ${format.date(row.release_at_high)}<br>difference ${format.days(row.swing_s)}${row.release_at_low === null || row.release_at_high === null ? " or more" : ""}`;
      } }),
      series: [{
        type: "custom", clip: false, data: rows.map((row, i) => [at(row, "low"), i]), encode: { x: -1, y: 1 },
        markLine: middle === null ? undefined : { silent: true, symbol: "none", label: { show: false }, lineStyle: { color: css("--axis"), type: "solid" }, data: [{ xAxis: middle }] },
        renderItem: (params, api) => {
          const row = rows[params.dataIndex], lowAt = at(row, "low"), highAt = at(row, "high");
          const y = api.coord([lowAt, params.dataIndex])[1] + lower(), h = Math.min(barHeight(api, 0.5), 16);
          const x1 = api.coord([Math.min(lowAt, highAt), 0])[0], x2 = api.coord([Math.max(lowAt, highAt), 0])[0];
          const ends = lowAt <= highAt ? [leverEnd(row, "low"), leverEnd(row, "high")] : [leverEnd(row, "high"), leverEnd(row, "low")];
          const label = (x, word, align) => ({ type: "text", x, y, style: { text: word, fill: css("--soft"), fontSize: 11.5, align, verticalAlign: "middle" } });
          return { type: "group", children: [
            { type: "rect", shape: { x: x1, y: y - h / 2, width: Math.max(x2 - x1, 2), height: h, r: 2 }, style: { fill: colour(index) } },
            label(x1 - 6, ends[0], "right"), label(x2 + 6, ends[1], "left"),
          ] };
        },
      }],
    });
  }

  // ---- the page ----------------------------------------------------------------------------------------------------
  function drawAll() {
    for (const part of [releaseChart, oddsChart, timeCharts, lossCharts, ganttCharts, machineCharts, pipelineDrawings, costCharts, leverChart]) part();
  }

  function searchFacts() {
    const field = document.getElementById("fact-search"), kind = document.getElementById("fact-kind"), count = document.getElementById("fact-count");
    const rows = [...document.querySelectorAll("#fact-table tbody tr")].map((row) => [row, row.textContent.toLowerCase()]);
    const search = () => {
      const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      for (const [row, content] of rows) {
        const fits = words.every((w) => content.includes(w)) && (!kind.value || row.dataset.kind === kind.value);
        row.hidden = !fits;
        if (fits) shown++;
      }
      count.textContent = shown === rows.length ? "" : `${shown} of ${rows.length}`;
    };
    field.addEventListener("input", search);
    kind.addEventListener("change", search);
  }

  // A heading of the facts becomes a button: once up, then down; weakest first is how the page comes.
  function sortFacts() {
    const body = document.querySelector("#fact-table tbody"), heads = [...document.querySelectorAll("#fact-table thead th")];
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "sort";
      button.textContent = head.textContent;
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        for (const other of heads) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const key = (row) => row.cells[column].textContent.trim();
        const order = (a, b) => heads[column].textContent === "Kind" ? a.dataset.rank - b.dataset.rank : key(a).localeCompare(key(b), "en", { numeric: true }) || a.dataset.rank - b.dataset.rank;
        body.replaceChildren(...[...body.rows].sort((a, b) => (down ? -1 : 1) * order(a, b)));
      });
    });
  }

  const select = document.getElementById("lever-option");
  if (select) select.addEventListener("change", () => { leverGroup = select.selectedIndex; leverChart(); });
  zoomButtons();
  searchFacts();
  sortFacts();
  chooseCloseUp();
  drawAll();

  let waiting = 0, width = window.innerWidth;
  window.addEventListener("resize", () => {
    if (window.innerWidth === width) return;
    width = window.innerWidth;
    cancelAnimationFrame(waiting);
    waiting = requestAnimationFrame(() => { for (const chart of charts.values()) chart.resize(); drawAll(); });
  });
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  window.addEventListener("beforeprint", () => {  // closed details stay off the paper
    document.documentElement.classList.add("paper");
    for (const chart of charts.values()) chart.resize({ width: Math.min(chart.getDom().clientWidth, 660) });
    drawAll();
  });
  window.addEventListener("afterprint", () => {
    document.documentElement.classList.remove("paper");
    for (const chart of charts.values()) chart.resize({ width: "auto" });
    drawAll();
  });
  window.makespan = { data, format };
})();
