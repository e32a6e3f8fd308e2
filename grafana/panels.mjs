// What dashboard.mjs is written in: queries, the kinds of panels and how they look, where they are placed.

// Queries

/** What every series is chosen by. `.*` stands for "all", so that a missing namespace is no obstacle. */
const CHOSEN = 'namespace=~"$namespace", job=~"$job", instance=~"$instance"';

/** The chosen nodes' series of a metric. */
export const of = (metric, matchers = '') => `${metric}{${CHOSEN}${matchers && `, ${matchers}`}}`;

export const sum = (by, what) => (by ? `sum by (${by}) (${what})` : `sum(${what})`);

/** Per second. */
export const rate = (metric, by = '', matchers = '') => sum(by, `rate(${of(metric, matchers)}[$__rate_interval])`);

/** How often in the time that is shown. */
export const total = (metric, by = '', matchers = '') => sum(by, `increase(${of(metric, matchers)}[$__range])`);

/** What is a number: nothing where nothing was observed, which would be a "NaN" on the panel. */
const number = (expression) => `${expression} >= 0`;

export const quantile = (q, histogram, by = '', matchers = '') =>
  number(`histogram_quantile(${q}, ${rate(`${histogram}_bucket`, by ? `${by}, le` : 'le', matchers)})`);

/** Of a histogram. */
export const mean = (histogram) => number(`${rate(`${histogram}_sum`)} / ${rate(`${histogram}_count`)}`);

/** A pair of expression and legend for each of the usual quantiles. */
export const quantiles = (histogram) => [
  [quantile(0.5, histogram), 'half'],
  [quantile(0.9, histogram), '90 %'],
  [quantile(0.99, histogram), '99 %'],
];

// What all panels have in common

export const DATASOURCE = { type: 'prometheus', uid: '${datasource}' };

/** From green over orange to red, at these values; `null` leaves one out. */
export const steps = (orange, red) => ({
  mode: 'absolute',
  steps: [
    { color: 'green', value: null },
    ...(orange === null ? [] : [{ color: 'orange', value: orange }]),
    ...(red === null ? [] : [{ color: 'red', value: red }]),
  ],
});

/** From red below the value to green. */
export const atLeast = (orange, green) => ({
  mode: 'absolute',
  steps: [{ color: 'red', value: null }, { color: 'orange', value: orange }, { color: 'green', value: green }],
});

const PLAIN = { mode: 'absolute', steps: [{ color: 'text', value: null }] };

export const REDIS_STATES = [
  {
    type: 'value',
    options: {
      0: { text: 'away', color: 'red', index: 0 },
      1: { text: 'recovering', color: 'orange', index: 1 },
      2: { text: 'ready', color: 'green', index: 2 },
    },
  },
];

export const NODE_STATES = [
  {
    type: 'value',
    options: {
      0: { text: 'not ready', color: 'red', index: 0 },
      1: { text: 'ready', color: 'green', index: 1 },
      2: { text: 'stopping', color: 'orange', index: 2 },
      '-1': { text: 'unreachable', color: 'red', index: 3 },
    },
  },
];

/** One of NODE_STATES. A node that can't be scraped says nothing of itself. */
export const NODE_STATE = `${of('carillon_ready')} + 2 * ${of('carillon_draining')} or (${of('up')} == 0) - 1`;

const target = ([expr, legendFormat], index, more = {}) => ({
  datasource: DATASOURCE,
  expr,
  legendFormat,
  refId: String.fromCharCode(65 + index),
  editorMode: 'code',
  range: true,
  ...more,
});

const instant = { range: false, instant: true };

/** Counts up while the dashboard is put together. */
let panels = 0;

const panel = (type, title, description, targets, { w, h, options, defaults, overrides = [], transformations }) => ({
  id: ++panels,
  type,
  title,
  description,
  datasource: DATASOURCE,
  gridPos: { x: 0, y: 0, w, h },
  targets,
  options,
  fieldConfig: { defaults, overrides },
  ...(transformations && { transformations }),
});

/** One or a few figures as they are now. A title of more than 14 letters needs a width of 6, or narrow windows cut it off. */
export const stat = (title, description, queries, { unit = 'short', thresholds = PLAIN, mappings = [], none = '-', w = 4, decimals, graph = 'none' } = {}) =>
  panel('stat', title, description, queries.map((query, index) => target(query, index, graph === 'none' ? instant : {})), {
    w,
    h: 4,
    options: {
      reduceOptions: { values: false, calcs: ['lastNotNull'], fields: '' },
      orientation: 'auto',
      textMode: queries.length > 1 ? 'value_and_name' : 'value',
      text: { valueSize: 28, titleSize: 14 },
      wideLayout: true,
      colorMode: 'value',
      graphMode: graph,
      justifyMode: 'auto',
      percentChangeColorMode: 'standard',
      showPercentChange: false,
    },
    defaults: { unit, thresholds, mappings, noValue: none, color: { mode: 'thresholds' }, ...(decimals !== undefined && { decimals }) },
  });

/** Lines over time. `line` draws a red line where it becomes too much. */
export const graph = (title, description, queries, { unit = 'short', stacked = false, line = null, w = 8, max } = {}) =>
  panel('timeseries', title, description, queries.map((query, index) => target(query, index)), {
    w,
    h: 9,
    options: {
      // Three or four lines fit: the highest of what is shown, whoever they are.
      legend: { showLegend: true, displayMode: 'table', placement: 'bottom', calcs: ['lastNotNull', 'max'], sortBy: 'Max', sortDesc: true },
      tooltip: { mode: 'multi', sort: 'desc' },
    },
    defaults: {
      unit,
      min: 0,
      ...(max !== undefined && { max }),
      noValue: 'nothing',
      color: { mode: 'palette-classic' },
      thresholds: steps(null, line),
      custom: {
        drawStyle: 'line',
        lineInterpolation: 'linear',
        lineWidth: 1,
        fillOpacity: stacked ? 30 : 0,
        showPoints: 'never',
        spanNulls: false,
        stacking: { mode: stacked ? 'normal' : 'none', group: 'A' },
        thresholdsStyle: { mode: line === null ? 'off' : 'dashed' },
      },
    },
  });

/** What each node was when. */
export const states = (title, description, query, mappings, { w = 12 } = {}) =>
  panel('state-timeline', title, description, [target([query, '{{instance}}'], 0)], {
    w,
    h: 9,
    options: {
      mergeValues: true,
      showValue: 'auto',
      alignValue: 'left',
      rowHeight: 0.8,
      legend: { showLegend: false, displayMode: 'list', placement: 'bottom', calcs: [] },
      tooltip: { mode: 'single', sort: 'none' },
    },
    // Coloured by thresholds, the spans would be named by these as well, and not by the mappings.
    defaults: { mappings, noValue: 'nothing', color: { mode: 'palette-classic' }, custom: { fillOpacity: 70, lineWidth: 0 } },
  });

/** Where most of a histogram's observations were when. */
export const heat = (title, description, histogram, { w = 8 } = {}) =>
  panel('heatmap', title, description, [target([sum('le', `increase(${of(`${histogram}_bucket`)}[$__rate_interval])`), '{{le}}'], 0, { format: 'heatmap' })], {
    w,
    h: 9,
    options: {
      calculate: false,
      color: { mode: 'scheme', scheme: 'Oranges', steps: 64, exponent: 0.5, fill: 'dark-orange', reverse: false },
      cellGap: 1,
      filterValues: { le: 1e-9 },
      rowsFrame: { layout: 'auto' },
      yAxis: { unit: 's', reverse: false, axisPlacement: 'left' },
      showValue: 'never',
      // It would take the room that the names of the buckets need.
      legend: { show: false },
      exemplars: { color: 'rgba(255,0,255,0.7)' },
      tooltip: { mode: 'single', yHistogram: false, showColorScale: false },
    },
    defaults: { custom: { hideFrom: { legend: false, tooltip: false, viz: false } } },
  });

/** A table with a line for each node; a column is a title, a query by instance, and how it looks. A query without a title is
 *  there for its labels, each of which is a column. */
export const nodes = (title, description, columns) => {
  const letter = (index) => String.fromCharCode(65 + index);
  const byName = (name, properties) => ({ matcher: { id: 'byName', options: name }, properties });
  const values = columns.map(([name], index) => [`Value #${letter(index)}`, name]);
  const names = Object.fromEntries(values.filter(([, name]) => name !== null));
  /** Room for so many letters: columns are scrolled to sooner than they are cut off. */
  const wide = (letters) => ({ id: 'custom.minWidth', value: 16 + 8 * letters });
  // What a node is comes last: on a narrow screen one scrolls to it.
  const order = Object.fromEntries(['instance', ...values.filter(([, name]) => name !== null).map(([value]) => value), 'version', 'commit'].map((name, index) => [name, index]));
  const hidden = Object.fromEntries(values.filter(([, name]) => name === null).map(([value]) => [value, true]));
  return panel('table', title, description, columns.map(([, expr], index) => target([expr, ''], index, { ...instant, format: 'table' })), {
    w: 24,
    h: 9,
    options: { showHeader: true, cellHeight: 'sm', sortBy: [{ displayName: 'node', desc: false }] },
    defaults: { noValue: '-', color: { mode: 'thresholds' }, thresholds: PLAIN, custom: { align: 'auto', cellOptions: { type: 'auto' }, inspect: false, minWidth: 80 } },
    overrides: [['node', 16], ['commit', 13]].map(([name, letters]) => byName(name, [wide(letters)])).concat(columns.filter(([name]) => name !== null).map(([name, , { unit = 'short', thresholds, mappings, decimals } = {}]) =>
      byName(name, [
        { id: 'unit', value: unit },
        wide(Math.max(8, name.length, ...Object.values(mappings?.[0].options ?? {}).map(({ text }) => text.length))),
        ...(decimals !== undefined ? [{ id: 'decimals', value: decimals }] : []),
        ...(mappings ? [{ id: 'mappings', value: mappings }] : []),
        ...(thresholds ? [{ id: 'thresholds', value: thresholds }] : []),
        ...(thresholds || mappings ? [{ id: 'custom.cellOptions', value: { type: 'color-text' } }] : []),
      ]),
    )),
    // One frame a query, made one table: their lines are of one moment and of the same nodes.
    transformations: [
      { id: 'merge', options: {} },
      { id: 'organize', options: { excludeByName: { Time: true, ...hidden }, indexByName: order, includeByName: {}, renameByName: { ...names, instance: 'node' } } },
    ],
  });
};

/** A question and the panels that answer it. What few clusters have is `folded` until somebody asks. */
export const row = (title, inside, { folded = false } = {}) => ({ id: ++panels, title, inside, folded });

// Where they are

/** Panels side by side as long as they fit into the 24 columns, from the line `y` on; gives the line below them. */
function place(inside, y) {
  let x = 0;
  let height = 0;
  for (const { gridPos } of inside) {
    if (x + gridPos.w > 24) {
      y += height;
      x = height = 0;
    }
    Object.assign(gridPos, { x, y });
    x += gridPos.w;
    height = Math.max(height, gridPos.h);
  }
  return y + height;
}

/** All rows, one below the other; a folded one has its panels inside, an open one behind it. */
export function layout(questions) {
  const all = [];
  let y = 0;
  for (const { id, title, inside, folded } of questions) {
    all.push({ id, type: 'row', title, collapsed: folded, gridPos: { x: 0, y, w: 24, h: 1 }, panels: folded ? inside : [] });
    const below = place(inside, y + 1);
    if (folded) {
      y += 1;
    } else {
      all.push(...inside);
      y = below;
    }
  }
  return all;
}
