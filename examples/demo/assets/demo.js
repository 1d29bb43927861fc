// The page of the demo: fetches frames, draws them, and sends the settings of the controls.
'use strict';

const EVERY = 500; // milliseconds: the interval of the frames
const KEPT = 240; // frames
const NONE = '–';

const byId = (id) => document.getElementById(id);
const frames = [];

// Numbers as text.

const percent = (share) => (share == null ? NONE : `${Math.round(share * 100)} %`);
const number = (value) => (value == null ? NONE : Math.round(value).toLocaleString('en-GB'));
const seconds = (value) => (value == null ? NONE : `${value > 0 && value < 1 ? value.toFixed(1) : Math.round(value)} s`);
const times = (load) => `${load < 10 ? Number(load.toFixed(1)) : Math.round(load)} ×`;
const millis = (value) => {
  if (value == null) return NONE;
  return value < 1000 ? `${Math.round(value)} ms` : `${(value / 1000).toFixed(1)} s`;
};

// The charts. A line is its name, its colour, its value in a frame, its dash, and the text without a value.

const dashed = [5, 4];
const positive = (value) => (value > 0 ? value : null);

const CHARTS = [
  {
    title: 'Goodput', unit: 'of capacity', range: [-0.03, 1.2], splits: [0, 0.5, 1], text: percent,
    lines: [
      ['without', '--bare', (frame) => frame.bare.goodput_share],
      ['LoadShed', '--shed', (frame) => frame.shed.goodput_share],
    ],
  },
  {
    title: 'Latency', unit: 'p50, p99 dashed', log: true, range: [15, 2000], splits: [20, 100, 500, 1000], text: millis,
    lines: [
      ['without', '--bare', (frame) => frame.bare.p50],
      ['', '--bare', (frame) => frame.bare.p99, dashed],
      ['LoadShed', '--shed', (frame) => frame.shed.p50],
      ['', '--shed', (frame) => frame.shed.p99, dashed],
    ],
  },
  {
    title: 'Offered', unit: 'a second, retries included', log: true, range: [20, 50000], splits: [100, 1000, 10000], text: number,
    lines: [
      ['fresh', '--fresh', (frame) => positive(frame.bare.fresh), dashed],
      ['without', '--bare', (frame) => positive(frame.bare.offered)],
      ['LoadShed', '--shed', (frame) => positive(frame.shed.offered)],
    ],
  },
  {
    title: 'In flight', unit: 'against the limit', log: true, range: [0.8, 50000], splits: [1, 10, 100, 1000, 10000],
    text: number,
    lines: [
      ['without', '--bare', (frame) => positive(frame.bare.in_flight)],
      ['LoadShed', '--shed', (frame) => positive(frame.shed.in_flight)],
      ['limit', '--shed', (frame) => frame.shed.limit, dashed, 'none'],
    ],
  },
  {
    title: 'Refused, by class', unit: 'with LoadShed', range: [-0.03, 1.05], splits: [0, 0.5, 1], text: percent,
    lines: [
      ['SHEDDABLE /browse', '--shed', (frame) => frame.shed.refused_browse],
      ['CRITICAL /pay', '--ink', (frame) => frame.shed.refused_pay],
    ],
  },
  {
    title: 'Retry-After', unit: 'of refusals', range: [-2, 65], splits: [0, 30, 60], text: seconds,
    lines: [
      ['median', '--shed', (frame) => frame.shed.hint_p50],
      ['longest', '--shed', (frame) => frame.shed.hint_max, dashed],
    ],
  },
];

// Seconds that the charts show.
function span() {
  const all = frames.length ? frames.at(-1).at - frames[0].at : 0;
  return [40, 60, 120].find((span) => span >= all) ?? 120;
}

const overloaded = ({ settings }) => settings.load > (settings.drop ? 0.5 : 1);
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// A chart with its own legend, which shows the latest values as text.
class Chart {
  constructor(settings) {
    this.settings = settings;
    this.figure = document.createElement('figure');
    const caption = document.createElement('figcaption');
    const title = Object.assign(document.createElement('h3'), { textContent: settings.title });
    const unit = Object.assign(document.createElement('small'), { textContent: settings.unit });
    const legend = Object.assign(document.createElement('ul'), { className: 'legend' });
    this.values = settings.lines.map(([name, , , dash]) => {
      const value = document.createElement('b');
      if (name) {
        const item = document.createElement('li');
        const swatch = document.createElement('i');
        swatch.className = dash ? 'dashed' : '';
        item.append(swatch, `${name} `, value);
        legend.append(item);
      }
      return value;
    });
    this.swatches = [...legend.querySelectorAll('i')];
    this.plotted = Object.assign(document.createElement('div'), { className: 'plot' });
    this.plotted.setAttribute('aria-hidden', 'true');
    caption.append(title, unit, legend);
    this.figure.append(caption, this.plotted);
    byId('charts').append(this.figure);
    new ResizeObserver(() => this.plot?.setSize(this.size())).observe(this.plotted);
  }

  size() {
    return { width: this.plotted.clientWidth, height: this.plotted.clientHeight };
  }

  // Draws the chart anew; also called when the colour scheme changes.
  draw() {
    this.plot?.destroy();
    const { lines, log, range, splits, text } = this.settings;
    const named = lines.filter(([name]) => name);
    this.swatches.forEach((swatch, nth) => swatch.style.setProperty('--colour', colour(named[nth][1])));
    const axis = {
      font: '11px system-ui, sans-serif', stroke: colour('--quiet'),
      grid: { stroke: colour('--grid'), width: 1 }, ticks: { show: false },
    };
    const ago = (at) => Math.round(at - this.now());
    const options = {
      ...this.size(),
      legend: { show: false },
      cursor: { y: false, sync: { key: 'demo' }, drag: { x: false, y: false } },
      padding: [8, 14, 0, 0],
      scales: {
        x: { time: false, range: () => [this.now() - span(), this.now()] },
        y: { range: () => range, ...(log && { distr: 3 }) },
      },
      axes: [
        { ...axis, size: 22, gap: 4, splits: () => [1, 0.75, 0.5, 0.25, 0].map((part) => this.now() - part * span()),
          values: (_, ats) => ats.map((at) => (ago(at) === 0 ? 'now' : `−${-ago(at)} s`)) },
        { ...axis, size: 52, gap: 4, splits: () => splits, filter: (_, all) => all,
          values: (_, all) => all.map((value) => text(value)) },
      ],
      series: [{}, ...lines.map(([, stroke, , dash]) => ({
        stroke: colour(stroke), width: dash ? 1.5 : 2, dash, points: { show: false }, spanGaps: false,
      }))],
      hooks: { drawClear: [(plot) => this.shade(plot)] },
    };
    this.plot = new uPlot(options, this.data(), this.plotted);
  }

  now() {
    return frames.at(-1)?.at ?? 0;
  }

  data() {
    const lines = this.settings.lines.map(([, , value]) => frames.map((frame) => value(frame) ?? null));
    return [frames.map((frame) => frame.at), ...lines];
  }

  // Shades the times at which the offered load exceeds the capacity.
  shade(plot) {
    const { ctx, bbox } = plot;
    const edge = (at) => Math.min(Math.max(plot.valToPos(at, 'x', true), bbox.left), bbox.left + bbox.width);
    ctx.fillStyle = colour('--shade');
    frames.slice(1).forEach((frame, nth) => {
      if (!overloaded(frame)) return;
      const from = edge(frames[nth].at);
      ctx.fillRect(from, bbox.top, edge(frame.at) - from + 0.5, bbox.height);
    });
  }

  update() {
    const last = frames.at(-1);
    this.plot.setData(this.data());
    this.settings.lines.forEach(([, , value, , none = NONE], nth) => {
      this.values[nth].textContent = value(last) == null ? none : this.settings.text(value(last));
    });
  }
}

// The tiles.

function state(side, frame) {
  const { bare, capacity, settings } = frame;
  const metrics = frame[side];
  if (side === 'shed' && settings.dry_run) return '◌ dry run: refuses nothing';
  const demand = Math.min(bare.fresh, capacity);
  const served = metrics.goodput / Math.max(demand, 1);
  if (served < 0.5) {
    const gone = demand < capacity && metrics.backlog > 2;
    return gone ? '✕ down, although the load has ended' : '✕ down: serves timed-out requests';
  }
  if (served < 0.9) return '△ degraded';
  if (!metrics.refused) return '✓ serves all requests';
  return demand < capacity ? '✓ holds while refused callers retry' : '✓ holds';
}

function show(side, frame) {
  const metrics = frame[side];
  const set = (name, text) => {
    const element = byId(`${side}-${name}`);
    // Only on a change: a screen reader announces every assignment.
    if (element.textContent !== text) element.textContent = text;
  };
  set('goodput', percent(metrics.goodput_share));
  set('state', state(side, frame));
  set('p50', millis(metrics.p50));
  set('p99', millis(metrics.p99));
  set('flight', metrics.limit ? `${number(metrics.in_flight)} of ${number(metrics.limit)}` : number(metrics.in_flight));
  set('failed', percent(metrics.failed));
  set('refused', frame.settings.dry_run && metrics.would_refuse ? `would: ${number(metrics.would_refuse)}` : percent(metrics.refused));
  set('backlog', seconds(metrics.backlog));
  byId(`${side}-bar`).style.width = `${Math.min(100 * metrics.goodput_share, 100)}%`;
}

// The controls.

const LEAST = 0.2;
const MOST = 20;
const toLoad = (position) => Number((LEAST * (MOST / LEAST) ** (position / 100)).toPrecision(2));
const toPosition = (load) => (100 * Math.log(load / LEAST)) / Math.log(MOST / LEAST);
const slider = byId('load');
let touched = 0;

function showLoad(load) {
  byId('load-value').textContent = times(load);
  slider.setAttribute('aria-valuetext', `${times(load)} of the capacity`);
  for (const button of document.querySelectorAll('[data-load]')) {
    button.setAttribute('aria-pressed', String(Number(button.dataset.load) === load));
  }
}

function showSettings(settings) {
  slider.value = toPosition(settings.load);
  showLoad(settings.load);
  for (const box of document.querySelectorAll('[role=switch]')) box.checked = settings[box.name];
}

async function change(settings) {
  touched = Date.now();
  const headers = { 'content-type': 'application/json' };
  try {
    await fetch('settings', { method: 'POST', headers, body: JSON.stringify(settings) });
  } catch {
    lost();
  }
}

slider.addEventListener('input', () => {
  const load = toLoad(Number(slider.value));
  showLoad(load);
  change({ load });
});
byId('controls').addEventListener('click', ({ target }) => {
  if (!target.dataset.load) return;
  const load = Number(target.dataset.load);
  slider.value = toPosition(load);
  showLoad(load);
  change({ load });
});
byId('restart').addEventListener('click', async () => {
  touched = 0;
  await fetch('restart', { method: 'POST' }).catch(lost);
});
byId('controls').addEventListener('change', ({ target }) => {
  if (target.role === 'switch') change({ [target.name]: target.checked });
});
byId('controls').addEventListener('submit', (event) => event.preventDefault());

// Receiving frames.

const charts = CHARTS.map((settings) => new Chart(settings));

function lost() {
  byId('live').textContent = '✕ the demo has stopped';
  byId('live').className = 'lost';
}

function addFrames(received) {
  // The demo was restarted.
  if (received.length && frames.length && received[0].number <= frames.at(-1).number) frames.length = 0;
  frames.push(...received);
  frames.splice(0, frames.length - KEPT);
  const last = frames.at(-1);
  if (!received.length || !last) return;
  show('bare', last);
  show('shed', last);
  charts.forEach((chart) => chart.update());
  byId('live').textContent = `● live, ${Math.round(last.at)} s`;
  byId('live').className = '';
  const lateness = Math.max(last.bare.lateness ?? 0, last.shed.lateness ?? 0);
  byId('lateness').textContent = `${lateness.toFixed(1)} ms`;
  byId('busy').hidden = lateness < 20;
  if (Date.now() - touched > 1500) showSettings(last.settings);
}

async function follow() {
  try {
    const response = await fetch(`frames?after=${frames.at(-1)?.number ?? 0}`);
    addFrames(await response.json());
    setTimeout(follow, EVERY / 2);
  } catch {
    lost();
    setTimeout(follow, 4 * EVERY);
  }
}

async function begin() {
  const facts = await (await fetch('facts')).json();
  byId('facts').textContent = [
    `Each copy has ${facts.workers} workers, with a capacity of ${facts.capacity} requests a second, and a queue of ${number(facts.queue)}.`,
    'Queued requests are served even if their callers have timed out.',
    `Requests time out after ${facts.timeout} s. Callers that retry send a request ${facts.tries} times:`,
    'at once after a timeout or a failure, after Retry-After when refused.',
    `One request in ${facts.payment_every} is a payment (CRITICAL), the others browse (SHEDDABLE).`,
  ].join(' ');
  charts.forEach((chart) => chart.draw());
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => charts.forEach((chart) => chart.draw()));
  follow();
}

begin();
