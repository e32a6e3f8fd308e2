// grafana/rules.yaml: every alert is complete and tried, and says nothing of labels that it has not.
//
// What they fire at is in rules.test.yaml, for promtool.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import test from 'node:test';

const read = (path) => readFileSync(new URL(path, import.meta.url), 'utf8');
/** Each alert's lines, by its name. */
const alerts = new Map(
  read('../../grafana/rules.yaml')
    .split(/^ {6}- alert: /m)
    .slice(1)
    .map((text) => [text.match(/^\w+/)[0], text]),
);
/** The labels that an alert fires with in its tests, by its name. */
const fired = new Map();
for (const [, name, labels] of read('rules.test.yaml').matchAll(/labels: '\{alertname="(\w+)"(.*?)\}'/g)) {
  fired.set(name, [...(fired.get(name) ?? []), ...[...labels.matchAll(/(\w+)="/g)].map(([, label]) => label)]);
}

test('every alert is complete', () => {
  assert.ok(alerts.size > 30);
  for (const [name, text] of alerts) {
    assert.match(name, /^Carillon[A-Z]/);
    assert.match(text, /^ {8}for: \d+[mh]$/m, name);
    assert.match(text, /^ {10}severity: (critical|warning)$/m, name);
    for (const annotation of ['summary', 'description', 'runbook']) {
      assert.match(text, new RegExp(`^ {10}${annotation}: \\S`, 'm'), `${name}: ${annotation}`);
    }
  }
});

test('every alert is seen firing by a test, with the labels that its texts speak of', () => {
  assert.deepEqual([...fired.keys()].sort(), [...alerts.keys()].sort());
  for (const [name, text] of alerts) {
    const spoken = [...text.matchAll(/\$labels\.(\w+)/g)].map(([, label]) => label);
    assert.deepEqual(spoken.filter((label) => !fired.get(name).includes(label)), [], name);
  }
});
