// grafana/dashboard.json: what its generator writes, of Grafana's own types, and whole.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'node:test';
import ts from 'typescript';

const here = new URL('.', import.meta.url).pathname;
const root = join(here, '../..');
const text = readFileSync(join(root, 'grafana/dashboard.json'), 'utf8');
const dashboard = JSON.parse(text);
const rows = dashboard.panels.filter((panel) => panel.type === 'row');
const panels = dashboard.panels.flatMap((panel) => (panel.type === 'row' ? panel.panels : [panel]));

test('it is what the generator writes', () => {
  const directory = mkdtempSync(join(tmpdir(), 'dashboard-'));
  try {
    const fresh = join(directory, 'dashboard.json');
    execFileSync(process.execPath, [join(root, 'grafana/dashboard.mjs'), fresh]);
    assert.equal(text, readFileSync(fresh, 'utf8'), 'out of date: node grafana/dashboard.mjs');
  } finally {
    rmSync(directory, { recursive: true });
  }
});

/** The compiler's own and Grafana's files, read once. */
const read = new Map();

/** What the TypeScript compiler says, strictly, to a dashboard as a value of that type. */
function complaints(json, type) {
  const name = join(here, `as-${type}.ts`);
  const source = `import type { ${type} } from './dashboard.types';\nexport const dashboard: ${type} = ${json};\n`;
  const options = { strict: true, noEmit: true, target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ESNext, moduleResolution: ts.ModuleResolutionKind.Bundler, skipLibCheck: true, types: [] };
  const host = ts.createCompilerHost(options);
  const { fileExists, readFile, getSourceFile } = host;
  host.fileExists = (path) => path === name || fileExists.call(host, path);
  host.readFile = (path) => (path === name ? source : readFile.call(host, path));
  host.getSourceFile = (path, version, ...more) => {
    if (path === name) {
      return ts.createSourceFile(path, source, version);
    }
    if (!read.has(path)) {
      read.set(path, getSourceFile.call(host, path, version, ...more));
    }
    return read.get(path);
  };
  const program = ts.createProgram([name], options, host);
  return ts.getPreEmitDiagnostics(program).map((found) => ts.flattenDiagnosticMessageText(found.messageText, '\n'));
}

test("it is a dashboard by Grafana's types, options and fields of each panel included", () => {
  assert.deepEqual(complaints(text, 'Strict'), []);
});

test('and by those of version 11', () => {
  assert.deepEqual(complaints(text, 'Eleven'), []);
});

test('the types would find a mistake', () => {
  for (const [right, wrong] of [
    ['"type": "timeseries"', '"type": "graph"'],
    ['"colorMode": "value"', '"colorMode": "colour"'],
    ['"drawStyle": "line"', '"drawStyle": "lines"'],
    ['"graphTooltip": 1', '"graphTooltips": 1'],
    ['"legendFormat"', '"legend"'],
  ]) {
    assert.ok(text.includes(right), right);
    assert.notDeepEqual(complaints(text.replace(right, wrong), 'Strict'), [], wrong);
  }
});

test('every panel says what to do, has a unit, and asks the Prometheus that was chosen', () => {
  for (const { title, description, type, fieldConfig, targets, datasource } of panels) {
    assert.ok(description.length >= 60 && /[.?]$/.test(description), `${title}: ${description}`);
    assert.ok(type === 'table' || type === 'state-timeline' || type === 'heatmap' || fieldConfig.defaults.unit, `${title}: no unit`);
    assert.ok(targets.length > 0, title);
    assert.equal(new Set(targets.map((target) => target.refId)).size, targets.length, title);
    for (const uid of [datasource.uid, ...targets.map((target) => target.datasource.uid)]) {
      assert.equal(uid, '${datasource}', title);
    }
  }
  const titles = panels.map((panel) => panel.title);
  assert.equal(new Set(titles).size, titles.length, 'two panels of one title');
  const ids = [...panels, ...rows].map((panel) => panel.id);
  assert.equal(new Set(ids).size, ids.length, 'two panels of one id');
});

test('no panel lies on another, none sticks out', () => {
  const overlap = (a, b) => a.x < b.x + b.w && b.x < a.x + a.w && a.y < b.y + b.h && b.y < a.y + a.h;
  const places = [dashboard.panels, ...rows.filter((row) => row.collapsed).map((row) => row.panels)];
  for (const side of places) {
    for (const [index, { title, gridPos }] of side.entries()) {
      assert.ok(gridPos.x + gridPos.w <= 24, title);
      for (const other of side.slice(index + 1)) {
        assert.ok(!overlap(gridPos, other.gridPos), `${title} and ${other.title}`);
      }
    }
  }
});

test('the variables are those that the queries use', () => {
  const known = dashboard.templating.list.map((variable) => variable.name);
  assert.deepEqual(known, ['datasource', 'namespace', 'job', 'instance']);
  const builtIn = ['__rate_interval', '__range'];
  for (const [, name] of text.matchAll(/\$\{?(\w+)/g)) {
    assert.ok([...known, ...builtIn].includes(name) || name === '__all', name);
  }
});

test("every metric of the README's table is on the dashboard", () => {
  const readme = readFileSync(join(root, 'README.md'), 'utf8');
  const table = readme.split('<!-- metrics:begin -->')[1].split('<!-- metrics:end -->')[0];
  const metrics = [...table.matchAll(/^\| `(carillon_\w+)`/gm)].map(([, name]) => name);
  assert.ok(metrics.length > 50);
  const shown = panels.flatMap((panel) => panel.targets.map((target) => target.expr)).join('\n');
  const missing = metrics.filter((name) => !new RegExp(`\\b${name}(_bucket|_sum|_count)?\\b`).test(shown));
  assert.deepEqual(missing, []);
});

test('what an alert calls a panel is one', () => {
  const rules = readFileSync(join(root, 'grafana/rules.yaml'), 'utf8');
  const names = [...panels.map((panel) => panel.title), ...rows.map((row) => row.title)];
  const quoted = [...rules.matchAll(/runbook: >-\n((?: {12}.*\n)+)|runbook: (.*)\n/g)]
    .flatMap(([, folded, plain]) => [...(folded ?? plain).replace(/\s+/g, ' ').matchAll(/"([^"]+)"/g)])
    .map(([, name]) => name);
  assert.ok(quoted.length > 15);
  // What else stands in quotes: answers, log lines and commands.
  const others = ['redis', 'stopping', 'for', 'configuration not reloaded', 'carillon reload', 'redis-cli --latency', 'ss -xp', 'changed tls certificate not taken'];
  assert.deepEqual(quoted.filter((name) => !names.includes(name) && !others.includes(name)), []);
});
