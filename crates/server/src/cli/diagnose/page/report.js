'use strict';
(() => {
  const data = JSON.parse(document.getElementById('data').textContent);
  const series = data.series;
  const at = id => document.getElementById(id);
  const style = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const dark = matchMedia('(prefers-color-scheme: dark)');

  // Words.
  const bytes = n => {
    if (n == null) return '–';
    const steps = [['GiB', 2 ** 30], ['MiB', 2 ** 20], ['KiB', 2 ** 10]];
    const [unit, size] = steps.find(([, size]) => Math.abs(n) >= size) || ['B', 1];
    const of = n / size;
    return (unit === 'B' || of >= 100 ? Math.round(of) : of.toFixed(1)) + ' ' + unit;
  };
  const span = ms => ms == null ? '–' : ms < 10 ? ms.toFixed(2) + ' ms' : ms < 1000 ? Math.round(ms) + ' ms'
    : ms < 120000 ? (ms / 1000).toFixed(1) + ' s' : Math.round(ms / 60000) + ' min';
  const clock = s => new Date(s * 1000).toISOString().slice(11, 21);
  const whole = n => n == null ? '–' : n >= 100 ? Math.round(n).toLocaleString('en') : (+n.toFixed(1)).toLocaleString('en');
  const element = (tag, text, name) => {
    const made = document.createElement(tag);
    if (text != null) made.textContent = text;
    if (name) made.className = name;
    return made;
  };
  const row = (into, cells, tag = 'td') => {
    const line = into.appendChild(element('tr'));
    for (const [text, name] of cells) line.appendChild(element(tag, text, name));
    return line;
  };
  const table = (id, heads, rows, none) => {
    const into = at(id);
    into.replaceChildren();
    row(into.createTHead(), heads, 'th').querySelectorAll('th').forEach(th => th.scope = 'col');
    const body = into.createTBody();
    rows.forEach(cells => row(body, cells));
    if (!rows.length) row(body, [[none, 'empty']]).firstChild.colSpan = heads.length;
  };

  // Head and verdict.
  at('meta').textContent = `${data.model} at ${data.url}, version ${data.version}, limit ${bytes(data.limit_bytes)}: ${data.seconds.toFixed(1)} s from ${data.began}`;
  for (const finding of data.findings) {
    const card = at('findings').appendChild(element('article', null, 'finding'));
    card.appendChild(element('p', finding.says));
    const list = card.appendChild(element('ul'));
    finding.evidence.forEach(text => list.appendChild(element('li', text)));
  }
  if (!data.findings.length) {
    const card = at('findings').appendChild(element('article', null, 'finding good'));
    card.appendChild(element('p', 'Nothing stands out.'));
    const list = card.appendChild(element('ul'));
    list.appendChild(element('li', 'No request was turned away for want of memory, no worker stands still, no lease outlives its request, no client keeps its answer waiting, the heap does not grow, and nothing is allocated in the hot path.'));
  }
  for (const [name, text] of data.facts) {
    const fact = at('facts').appendChild(element('div'));
    fact.appendChild(element('dt', name));
    fact.appendChild(element('dd', text));
  }
  for (const mark of [...series.marks].reverse()) {
    const item = at('deeds').querySelector('ol').appendChild(element('li'));
    [clock(mark.t), mark.kind, mark.text].forEach(text => item.appendChild(element('span', text)));
  }
  if (!series.marks.length) at('deeds').remove();

  // Charts.
  const counter = (group, name) => (series.counters.find(one => one.group === group && one.name === name) || {}).values || series.t.map(() => null);
  // A bucket that no reading fell into shows what was read before.
  const held = values => { let last = null; return values.map(v => v == null ? last : (last = v)); };
  const begin = series.t[0], end = series.t[series.t.length - 1] + series.bucket_s;
  const requests = held(counter('ledger', 'requests')), cached = held(counter('ledger', 'cached vectors')), limit = held(counter('ledger', 'limit'));
  const leased = series.counters.filter(one => one.group === 'leased').map(one => [one.name, held(one.values)]);
  leased.sort((a, b) => Math.max(...b[1]) - Math.max(...a[1]));
  const most = leased.slice(0, 3), others = leased.slice(3);
  const sum = lists => series.t.map((_, i) => lists.reduce((all, list) => all + (list[i] || 0), 0));
  const heap = held(counter('memory', 'heap')), idle = held(counter('memory', 'idle slots')), resident = held(counter('memory', 'resident'));
  const known = sum([heap, idle, cached, ...leased.map(one => one[1])]);
  const rest = resident.map((v, i) => v == null ? null : Math.max(0, v - known[i]));
  const owners = [
    ['weights, arenas, code', rest, '--s0'], ['heap', heap, '--s2'], ['cached vectors', cached, '--s3'],
    ...most.map(([name, values], i) => [name, values, `--s${[1, 4, 5][i]}`]),
    ['other leases', sum(others.map(one => one[1])), '--s7'], ['idle slots', idle, '--s6'],
  ];
  const charts = [
    { title: 'What requests hold', note: 'debited from the ledger; red where requests were refused', unit: bytes, stacked: true,
      lines: [['requests', requests, '--s1'], ['cached vectors', cached, '--s3']],
      over: [['limit', limit, '--ink'], ['refusing at', limit.map(v => v && v * .85), '--bad'], ['strained at', limit.map(v => v && v * .6), '--s2']] },
    { title: 'Memory by owner', note: 'of the whole process', unit: bytes, stacked: true, lines: owners, over: [] },
    { title: 'Requests a second', unit: whole, lines: [['answered', series.answered, '--s1'], ['refused', series.refused, '--bad']] },
    { title: 'From the door to the last byte', unit: span, gaps: true, lines: [['P50', series.p50, '--s1'], ['P99', series.p99, '--s2']] },
    { title: 'Requests inside', unit: whole, lines: ['inside', 'in line', 'waiting'].map((name, i) => [name, held(counter('requests', name)), ['--s1', '--s3', '--s2'][i]]) },
  ];
  const narrow = () => innerWidth < 640;
  let plots = [], chosen = [begin, end];

  /** Marks behind the lines: refusals as bands, changes of the level as lines, reclaim cycles as ticks at the foot. */
  const marks = u => {
    const { ctx, bbox } = u;
    const x = t => u.valToPos(t, 'x', true);
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
    ctx.clip();
    ctx.fillStyle = style('--band');
    series.refused.forEach((n, i) => n > 0 && ctx.fillRect(x(series.t[i]), bbox.top, Math.max(1, x(series.t[i] + series.bucket_s) - x(series.t[i])), bbox.height));
    for (const mark of series.marks.filter(one => one.t >= begin)) {
      ctx.fillStyle = style(mark.kind === 'level' ? '--bad' : '--soft');
      if (mark.kind === 'level') ctx.fillRect(x(mark.t), bbox.top, devicePixelRatio, bbox.height);
      if (mark.kind === 'reclaim') ctx.fillRect(x(mark.t) - devicePixelRatio, bbox.top + bbox.height - 9 * devicePixelRatio, 2 * devicePixelRatio, 9 * devicePixelRatio);
    }
    ctx.restore();
  };
  const draw = () => {
    plots.forEach(plot => plot.destroy());
    at('charts').replaceChildren();
    plots = charts.map(chart => {
      const box = at('charts').appendChild(element('div', null, 'chart'));
      const title = box.appendChild(element('h3', chart.title));
      if (chart.note) title.appendChild(element('span', chart.note));
      const columns = [], raw = [], shown = [];
      let below = series.t.map(() => 0);
      for (const [name, values, color] of chart.lines) {
        const column = chart.stacked ? below.map((v, i) => v + (values[i] || 0)) : values;
        if (chart.stacked) below = column;
        columns.push(column);
        raw.push(values);
        shown.push({ label: name, stroke: style(color), width: chart.stacked ? 1 : 1.75, points: { show: chart.gaps || false, size: 4 }, spanGaps: false,
          fill: chart.stacked ? style(color) + 'cc' : undefined, value: (u, v, s, i) => i == null ? '' : chart.unit(raw[s - 1][i]) });
      }
      for (const [name, values, color] of chart.over || []) {
        columns.push(values);
        raw.push(values);
        shown.push({ label: name, stroke: style(color), width: 1.25, dash: name === 'limit' ? undefined : [5, 4], points: { show: false }, value: (u, v, s, i) => i == null ? '' : chart.unit(raw[s - 1][i]) });
      }
      // An area is filled down to the one below it: the highest is drawn first.
      const stacked = chart.stacked ? chart.lines.length : 0;
      const bands = Array.from({ length: Math.max(0, stacked - 1) }, (_, i) => ({ series: [i + 2, i + 1] }));
      // Bytes are counted in powers of two, and so are their ticks.
      const incrs = chart.unit === bytes ? Array.from({ length: 36 }, (_, i) => 2 ** i) : undefined;
      const axis = { stroke: style('--soft'), font: '12px system-ui', grid: { stroke: style('--grid'), width: 1 }, ticks: { show: false } };
      const plot = new uPlot({
        width: box.clientWidth, height: narrow() ? 150 : 180, padding: [8, 26, 0, 0], bands,
        scales: { x: { time: true, range: () => [begin, end] }, y: { range: (u, low, high) => [0, Math.max(high * 1.06, 1e-9)] } },
        axes: [{ ...axis, size: 28, space: 84, values: (u, times, i, space, step) => times.map(t => clock(t).slice(0, step < 1 ? 10 : 8)) }, { ...axis, size: 64, incrs, values: (u, ticks) => ticks.map(tick => chart.unit(tick)) }],
        series: [{ label: 'at', value: (u, t) => t == null ? '' : clock(t) }, ...shown],
        cursor: { sync: { key: 'time' }, drag: { x: true, y: false, setScale: false }, points: { size: 5 } },
        hooks: { drawClear: [marks], setSelect: [u => select(u)] },
        legend: { live: true },
      }, [series.t, ...columns], box);
      return plot;
    });
    showChosen();
  };

  // The interval.
  let showing = false, told = 0;
  const showChosen = () => {
    showing = true;
    const isWhole = chosen[0] <= begin && chosen[1] >= end;
    for (const plot of plots) {
      const left = plot.valToPos(chosen[0], 'x'), right = plot.valToPos(chosen[1], 'x');
      plot.setSelect(isWhole ? { left: 0, width: 0, top: 0, height: 0 } : { left, width: right - left, top: 0, height: plot.over.clientHeight }, false);
    }
    showing = false;
    at('from').value = Math.round((chosen[0] - begin) / (end - begin) * 1000);
    at('to').value = Math.round((chosen[1] - begin) / (end - begin) * 1000);
    at('chosen').textContent = isWhole ? `whole time, ${(end - begin).toFixed(1)} s` : `${clock(chosen[0])} to ${clock(chosen[1])}, ${(chosen[1] - chosen[0]).toFixed(1)} s`;
  };
  const choose = (from, to) => {
    chosen = to - from < series.bucket_s / 2 ? [begin, end] : [Math.max(begin, from), Math.min(end, to)];
    showChosen();
    showFlame();
    showPools();
  };
  const select = u => {
    if (showing || (u.select.width === 0 && chosen[0] <= begin && chosen[1] >= end)) return;
    // All charts tell of the one that was dragged across: one answer is enough.
    cancelAnimationFrame(told);
    told = requestAnimationFrame(() => choose(u.posToVal(u.select.left, 'x'), u.posToVal(u.select.left + u.select.width, 'x')));
  };
  const slide = () => {
    const share = id => begin + at(id).value / 1000 * (end - begin);
    choose(Math.min(share('from'), share('to')), Math.max(share('from'), share('to')));
  };
  at('from').addEventListener('input', slide);
  at('to').addEventListener('input', slide);
  at('interval').addEventListener('reset', event => { event.preventDefault(); choose(begin, end); });

  // Flames.
  const NOISE = /^(\[|<?std::(rt|panic|panicking|sys|thread)|core::ops::function|<?core::panic|<alloc::boxed::Box|_*rust_|_*start|main$|_*clone3?$|__libc_start|.*::__rust_begin_short_backtrace|call_once|do_call|catch_unwind|new::thread_start|thread_start|\{closure|\?$)/;
  // Calls that only pass on what the one above them wants.
  const GLUE = /^(call_once|do_call|catch_unwind|\{closure|core::ops::function|<.* as core::ops::function|std::panic|<core::panic|.*__rust_begin_short_backtrace)/;
  const KINDS = [
    ['kernels', /plimsoll_kernel/, '--s4'], ['encoder', /plimsoll_encoder/, '--s7'], ['engine and text', /plimsoll_(engine|text|memory)/, '--s1'],
    ['server', /plimsoll::|^plimsoll/, '--s3'], ['transport', /tokio|hyper|axum|http|mio|tower|bytes::/, '--s5'], ['Rust library', /^<?(std|core|alloc|hashbrown)::/, '--s8'], ['others', /./, '--s2'],
  ];
  const UNITS = { cpu: v => span(v / 1e6), heap: bytes, pools: bytes };
  const NONE = { cpu: 'No CPU time was sampled in this interval.', heap: 'No sampled object of this interval is alive.', pools: 'No sampled lease of this interval is alive.' };
  let profile = 'cpu', chart = null;
  const isWhole = () => chosen[0] <= begin && chosen[1] >= end;
  const inside = ms => { const t = data.zero_s + ms / 1000; return isWhole() || (t >= chosen[0] - .25 && t <= chosen[1]); };
  const short = name => {
    let bare = name, before;
    do { before = bare; bare = bare.replace(/<[^<>]*>/g, ''); } while (bare !== before);
    const parts = (bare || name).split('::').filter(part => part && part !== '{{closure}}');
    return parts.slice(-2).join('::') || name;
  };
  const tree = samples => {
    const root = { name: 'all', value: 0, children: [] };
    for (const [frames, value, , ms, group] of samples) {
      if (!inside(ms)) continue;
      let names = frames.map(id => data.names[id]);
      const first = names.findIndex(name => !NOISE.test(name));
      names = names.slice(Math.max(0, first)).filter(name => !GLUE.test(name));
      if (group) names.unshift(group);
      let node = root;
      root.value += value;
      for (const name of names) {
        node.known ||= new Map();
        let child = node.known.get(name);
        if (!child) { node.known.set(name, child = { name, value: 0, children: [] }); node.children.push(child); }
        child.value += value;
        node = child;
      }
    }
    return root;
  };
  // Names stand on it.
  const hue = color => `color-mix(in srgb, ${style(color)}, ${style('--flame-tint')})`;
  const kindOf = (name, depth) => depth <= 1 ? null : KINDS.find(([, match]) => match.test(name));
  const showFlame = () => {
    const root = tree(data[profile]);
    const into = at('flame');
    into.replaceChildren();
    at('frame').textContent = '';
    document.querySelectorAll('[role=tab]').forEach(tab => { const on = tab.dataset.profile === profile; tab.setAttribute('aria-selected', on); tab.tabIndex = on ? 0 : -1; });
    into.setAttribute('aria-labelledby', 'tab-' + profile);
    at('flame-says').textContent = root.value ? UNITS[profile](root.value) + { cpu: ' of CPU time', heap: ' alive', pools: ' leased' }[profile] + (isWhole() ? '' : profile === 'cpu' ? ' in the interval' : ', born in the interval') : '';
    chart = null;
    if (!root.value) return into.appendChild(element('p', NONE[profile], 'empty'));
    root.name = 'all, ' + UNITS[profile](root.value);
    const says = d => `${d.data.name}\n${UNITS[profile](d.value)}, ${(d.value / root.value * 100).toFixed(1)}%`;
    chart = flame.flamegraph().width(into.clientWidth).cellHeight(21).inverted(true).minFrameSize(2).transitionDuration(matchMedia('(prefers-reduced-motion: reduce)').matches ? 0 : 200)
      .sort((a, b) => b.value - a.value).getName(d => d.depth <= 1 ? d.data.name : short(d.data.name)).setLabelHandler(says)
      .setSearchMatch((d, term) => d.data.name.toLowerCase().includes(term.toLowerCase()))
      .setColorMapper(d => { if (d.highlight) return style('--bad'); const kind = kindOf(d.data.name, d.depth); return hue(kind ? kind[2] : '--s0'); })
      .onHover(d => { at('frame').textContent = says(d).replace('\n', ': '); });
    flame.select(into).datum(root).call(chart);
    if (at('search').value) chart.search(at('search').value);
  };
  document.querySelectorAll('[role=tab]').forEach((tab, i, tabs) => {
    tab.addEventListener('click', () => { profile = tab.dataset.profile; showFlame(); });
    tab.addEventListener('keydown', event => {
      const to = { ArrowRight: i + 1, ArrowLeft: i - 1 }[event.key];
      if (to === undefined) return;
      const next = tabs[(to + tabs.length) % tabs.length];
      next.focus();
      next.click();
    });
  });
  at('search').addEventListener('input', event => chart && (event.target.value ? chart.search(event.target.value) : chart.clear()));
  at('unzoom').addEventListener('click', () => chart && chart.resetZoom());
  // Arrow keys walk the tree.
  let node = null;
  at('flame').addEventListener('keydown', event => {
    if (!chart) return;
    const frames = [...at('flame').querySelectorAll('g.frame')];
    const shown = new Map(frames.map(frame => [frame.__data__.id, frame]));
    const current = node && shown.has(node.id) ? node : frames.find(frame => frame.__data__.depth === 0)?.__data__;
    if (!current) return;
    const beside = step => { const all = (current.parent?.children || []).filter(one => shown.has(one.id)).sort((a, b) => a.x0 - b.x0); return all[all.indexOf(current) + step]; };
    const down = () => (current.children || []).filter(one => shown.has(one.id)).sort((a, b) => b.value - a.value)[0];
    const to = { ArrowDown: down, ArrowUp: () => current.parent, ArrowLeft: () => beside(-1), ArrowRight: () => beside(1) }[event.key];
    if (event.key === 'Escape') chart.resetZoom();
    else if (event.key === 'Enter') chart.zoomTo(current);
    else if (!to) return;
    event.preventDefault();
    node = (to && to()) || current;
    frames.forEach(frame => frame.classList.toggle('at', frame.__data__ === node));
    shown.get(node.id)?.scrollIntoView({ block: 'nearest' });
    at('frame').textContent = `${node.data.name}: ${UNITS[profile](node.value)}`;
  });
  const showKeys = () => at('keys').replaceChildren(...KINDS.map(([name, , color]) => {
    const item = element('li'), dot = item.appendChild(element('i'));
    dot.style.background = hue(color);
    item.append(name);
    return item;
  }));

  // Tables.
  const showPools = () => {
    const groups = new Map();
    const now = data.pools.reduce((last, one) => Math.max(last, one[3]), (end - data.zero_s) * 1000);
    for (const [, value, count, born, kind, place] of data.pools) {
      if (!inside(born)) continue;
      const key = kind + '\n' + place;
      const group = groups.get(key) || groups.set(key, { kind, place, count: 0, bytes: 0, oldest: 0, youngest: Infinity }).get(key);
      group.count += count;
      group.bytes += value;
      group.oldest = Math.max(group.oldest, now - born);
      group.youngest = Math.min(group.youngest, now - born);
    }
    const rows = [...groups.values()].sort((a, b) => b.oldest - a.oldest);
    table('pools', [['Kind'], ['Born in'], ['Leases', 'n'], ['Bytes', 'n'], ['Youngest', 'n'], ['Oldest', 'n']],
      rows.map(one => [[one.kind], [one.place, 'code'], ['≈ ' + one.count, 'n'], [bytes(one.bytes), 'n'], [span(one.youngest), 'n'], [span(one.oldest), 'n']]), NONE.pools);
  };
  table('suspects', [['Kind'], ['Born in'], ['Leases', 'n'], ['Bytes', 'n'], ['Oldest', 'n'], ['P99.9 of its kind', 'n']],
    data.suspects.map(one => [[one.kind], [one.place, 'code'], ['≈ ' + one.count, 'n'], [bytes(one.bytes), 'n'], [span(one.oldest_ms), 'n'], [span(one.p999_ms), 'n']]),
    'No sampled lease is that old.');
  table('inside', [['Request', 'n'], ['Stands in'], ['Inside for', 'n'], ['Holds', 'n'], ['Client took', 'n'], ['Tasks']],
    data.requests.map(one => [[one.number, 'n'], [one.phase], [span(one.age_ms), 'n'], [bytes(one.held), 'n'], [bytes(one.flushed), 'n'], [one.tasks || '–']]),
    'Nobody was inside.');
  table('bill', [['Owner'], ['Count', 'n'], ['Each', 'n'], ['Bytes', 'n']],
    data.plan.lines.map(one => [[one.owner], [one.count.toLocaleString('en'), 'n'], [bytes(one.each_bytes), 'n'], [bytes(one.bytes), 'n']]), '');

  draw();
  showFlame();
  showPools();
  showKeys();
  let width = innerWidth, later = 0;
  addEventListener('resize', () => {
    if (innerWidth === width) return;
    width = innerWidth;
    clearTimeout(later);
    later = setTimeout(() => { draw(); showFlame(); }, 100);
  });
  dark.addEventListener('change', () => { draw(); showFlame(); showKeys(); });
})();
