// What a dashboard of Grafana's may be, made of Grafana's own types: stricter than `Dashboard` alone, which leaves a
// panel's options and queries open.

import type { Dashboard, FieldConfigSource, Panel, RowPanel, ThresholdsConfig, VariableModel } from '@grafana/schema';
import type { Options as Heatmap, FieldConfig as HeatmapField } from '@grafana/schema/dist/esm/raw/composable/heatmap/panelcfg/x/HeatmapPanelCfg_types.gen';
import type { Options as Stat } from '@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen';
import type { Options as States, FieldConfig as StatesField } from '@grafana/schema/dist/esm/raw/composable/statetimeline/panelcfg/x/StateTimelinePanelCfg_types.gen';
import type { Options as Table, FieldConfig as TableField } from '@grafana/schema/dist/esm/raw/composable/table/panelcfg/x/TablePanelCfg_types.gen';
import type { Options as Lines, FieldConfig as LinesField } from '@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen';
import type { Dashboard as Dashboard11 } from 'grafana-schema-11';

/** The JSON of a value: an enumeration's members are their strings. */
type Json<T> = T extends string ? `${T}` : T extends number | boolean | null | undefined ? T : T extends (infer E)[] ? Json<E>[] : T extends object ? { [K in keyof T]: Json<T[K]> } : T;

/** A query as Grafana's editor for Prometheus saves it; its type is not in the package. */
interface Query {
  refId: string;
  datasource: { type: 'prometheus'; uid: '${datasource}' };
  expr: string;
  legendFormat: string;
  editorMode: 'code';
  range: boolean;
  instant?: boolean;
  format?: 'table' | 'heatmap';
}

interface Fields<Field> extends Omit<FieldConfigSource, 'defaults'> {
  defaults: Omit<FieldConfigSource['defaults'], 'custom' | 'thresholds'> & { custom?: Field; thresholds?: ThresholdsConfig };
}

/** Everything that this project wants of a panel has to be there. */
type Kind<Type extends string, Options, Field> = Omit<Panel, 'type' | 'options' | 'fieldConfig' | 'targets'> &
  Required<Pick<Panel, 'id' | 'title' | 'description' | 'gridPos' | 'datasource'>> & { type: Type; options: Options; fieldConfig: Fields<Field>; targets: Query[] };

type AnyPanel =
  | Kind<'stat', Stat, never>
  | Kind<'timeseries', Lines, LinesField>
  | Kind<'state-timeline', States, StatesField>
  | Kind<'heatmap', Heatmap, HeatmapField>
  // Which frame a table shows has a default.
  | Kind<'table', Omit<Table, 'frameIndex'>, TableField>;

type Row = Omit<RowPanel, 'panels'> & { panels: AnyPanel[] };

export type Strict = Json<Omit<Dashboard, 'panels' | 'templating'> & { panels: (AnyPanel | Row)[]; templating: { list: VariableModel[] } }>;

/** What version 11 of Grafana takes. */
export type Eleven = Json<Dashboard11>;
