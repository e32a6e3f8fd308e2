// Writes dashboard.json, the Grafana dashboard, from what is said here: `node grafana/dashboard.mjs`.
//
// The rows are the questions of an operator, in the order in which one asks them. A panel has a title, a description that
// says what is shown and what to do about it, and its queries. How panels look is in panels.mjs. Grafana 11 and later.

import { writeFileSync } from 'node:fs';
import { DATASOURCE, NODE_STATE, NODE_STATES, REDIS_STATES, atLeast, graph, heat, layout, mean, nodes, of, quantile, quantiles, rate, row, stat, states, steps, sum, total } from './panels.mjs';

// The questions

const QUESTIONS = [
  row('At a glance', [
    stat('Nodes now', 'Nodes that Prometheus is to scrape, those of them that are ready, and those that stop. Fewer ready than there are: see "Is a drain going on?", then /readyz of the node that is not ready.', [
      [`count(${of('up')})`, 'known'],
      [`sum(${of('carillon_ready')})`, 'ready'],
      [`sum(${of('carillon_draining')})`, 'stopping'],
    ], { w: 6 }),
    stat('Connections', 'WebSocket connections that are open now. A sudden fall: "Are clients connected?" shows whether they were closed, refused, or stay away.', [[`sum(${of('carillon_connections_open')})`, '']], { graph: 'area', w: 4 }),
    stat('Pushes', 'Pushes that the bus takes, a second. None, and there should be some: do backends get errors ("Pushes refused"), or do they not ask?', [[rate('carillon_pushes_total'), '']], { unit: 'cps', graph: 'area', w: 4 }),
    stat('Deliveries', 'Messages given to sockets, a second: each push times the clients that it is for.', [[rate('carillon_deliveries_total'), '']], { unit: 'cps', graph: 'area', w: 4 }),
    stat('Push to socket, 99 %', 'All but one push in a hundred are written to their sockets within this time, on whatever node they were taken. Over 250 ms: "How late?".', [[quantile(0.99, 'carillon_push_to_socket_seconds'), '']], { unit: 's', thresholds: steps(0.1, 0.25), none: 'no push', w: 6 }),
    stat('Redis', 'The worst that any node sees. "away": no pushes and no new clients there; open sockets stay. Nodes that run alone have none.', [[`min(${of('carillon_redis_state')})`, '']], { mappings: REDIS_STATES, none: 'none', w: 4 }),
    stat('Certificate', 'Time until the first certificate of any node expires. Under two weeks: whoever renews it has not, or the node refuses the new one ("TLS").', [[`min(${of('carillon_tls_certificate_expiry_timestamp_seconds')}) - time()`, '']], { unit: 's', thresholds: atLeast(2 * 86400, 14 * 86400), none: 'no TLS', w: 4 }),
    stat('Slow clients', 'Connections closed in the time shown because they did not read what they were sent. Many: "Who is slow?".', [[total('carillon_slow_consumers_total'), '']], { thresholds: steps(1, 100), decimals: 0, w: 4 }),
    stat('Gaps', 'Connections that may have missed a push in the time shown. Any: "Is Redis well?", "Trouble on the bus".', [[total('carillon_bus_gaps_total'), '']], { thresholds: steps(1, 100), decimals: 0, w: 4 }),
    stat('Turned away', 'Handshakes refused in the time shown, whatever for. Many: "Handshakes refused" has the reasons.', [[total('carillon_connections_refused_total'), '']], { thresholds: steps(1, 1000), decimals: 0, w: 4 }),
    stat('Alerts', "Alerts of Carillon's rules that fire now for this cluster, or for there being none. Each has a runbook with it.", [['count(ALERTS{alertname=~"Carillon.*", alertstate="firing", namespace=~"$namespace|", job=~"$job|"}) or vector(0)', '']], { thresholds: steps(1, 1), w: 4 }),
  ]),

  row('Are clients connected?', [
    graph('Connections open', 'WebSocket connections of each node. Uneven after a restart is normal, as nobody moves by himself; the load balancer should give new ones to the node with the fewest.', [[sum('instance', of('carillon_connections_open')), '{{instance}}']], { stacked: true }),
    graph('Taken in', 'Handshakes that were answered with 101, a second. A peak is a crowd that comes back: let clients wait a random time before they do.', [[rate('carillon_connections_accepted_total', 'instance'), '{{instance}}']], { unit: 'cps' }),
    graph('Closed, by reason', 'Connections that ended, a second. going_away: a node stops. lost and ping_timeout: the network, or a proxy with a time-out below PING_INTERVAL. slow_consumer: "Who is slow?". protocol_error and message_too_big: what the clients send.', [[rate('carillon_connections_closed_total', 'reason'), '{{reason}}']], { unit: 'cps', stacked: true }),
    graph('Handshakes refused', 'By reason, a second. full, unavailable and no_answer are our doing (MAX_CONNECTIONS, Redis, the webhook); the others are what the clients ask for.', [
      [`${rate('carillon_connections_refused_total', 'reason')} > 0`, '{{reason}}'],
      [rate('carillon_connections_refused_total'), 'all'],
    ], { unit: 'cps' }),
    graph('Tokens refused', "What was wrong with clients' tokens. expired: the backend's clock, or pages that keep a token. signature, unknown_key, no_key: a key was changed on one side only.", [
      [`${rate('carillon_tokens_refused_total', 'reason')} > 0`, '{{reason}}'],
      [rate('carillon_tokens_refused_total'), 'all'],
    ], { unit: 'cps' }),
    graph('Audiences and memberships', 'Channels, users, groups and device ids with members on a node, the memberships in them, and how many are made a second. Memberships that only grow: clients subscribe and never leave.', [
      [sum('', of('carillon_audiences')), 'audiences'],
      [sum('', of('carillon_memberships')), 'memberships'],
      [rate('carillon_joins_total'), 'made a second'],
    ]),
  ]),

  row('Are pushes arriving?', [
    graph('Pushes, by interface', 'Pushes that the bus took, a second. actions and events are the HTTP APIs, device the unix socket and its clients, webhook the answers of the application, operator "say".', [[rate('carillon_pushes_total', 'dialect'), '{{dialect}}']], { unit: 'cps', stacked: true }),
    graph('Pushes, by target', 'Whom they were for. Many to "all" cost most: each goes to every socket of every node.', [[rate('carillon_pushes_total', 'target'), '{{target}}']], { unit: 'cps', stacked: true }),
    graph('Pushes refused', 'What backends were told no for, a second. unavailable: Redis. no_answer: the node that has the connection is late. unknown_connection: it has gone, which is normal. limit: longer than MAX_PUSH.', [[rate('carillon_pushes_refused_total', 'reason'), '{{reason}}']], { unit: 'cps' }),
    graph('Deliveries, by node', 'Messages given to sockets by each node, a second. Pushes without deliveries: nobody is there for them ("Found nobody").', [[rate('carillon_deliveries_total', 'instance'), '{{instance}}']], { unit: 'cps', stacked: true }),
    graph('Found members, found nobody', 'Pushes to an audience, as each node met them: with members here, or without. A node that nobody listens at gets none of the pushes, so misses are few; many mean that backends push to names that nobody has, on their own nodes.', [
      [rate('carillon_audience_hits_total'), 'found members'],
      [rate('carillon_audience_misses_total'), 'found nobody'],
    ], { unit: 'cps' }),
    graph('Bytes', 'Sent to and read from WebSockets, a second. Near what the network card or the plan allows: push less, or add nodes.', [
      [rate('carillon_sent_bytes_total'), 'sent'],
      [rate('carillon_received_bytes_total'), 'received'],
    ], { unit: 'Bps' }),
    graph('Heartbeats', 'Heartbeat messages given to sockets, a second: connections divided by HEARTBEAT_INTERVAL. Fewer than that: clients that have not read what they are owed get none.', [[rate('carillon_heartbeats_total', 'instance'), '{{instance}}']], { unit: 'cps' }),
    graph('HTTP requests', 'Requests that backends make, a second, and those under way. Many under way: Redis is slow, or another node that has to answer.', [
      [rate('carillon_http_requests_total', 'instance'), '{{instance}}'],
      [sum('', of('carillon_http_requests_active')), 'under way'],
    ]),
    graph('HTTP connections', "Backends' connections, those refused as there were too many, and failures of accept (out of files). Refused: backends that don't reuse connections.", [
      [sum('instance', of('carillon_http_connections')), '{{instance}}'],
      [rate('carillon_http_connections_refused_total'), 'refused a second'],
      [rate('carillon_http_accept_errors_total'), 'errors of accept a second'],
    ]),
  ]),

  row('How late?', [
    graph('Push to socket', 'From taking a push, on whatever node, to the last write to its sockets. Late here and not in "Bus: lag": the node has too little CPU for its sockets. Late in both: Redis, or the way there.', quantiles('carillon_push_to_socket_seconds'), { unit: 's', line: 0.25 }),
    heat('Push to socket, all of them', 'The same, each push where it belongs. Two bands: some nodes or some moments are slow, see the next panel.', 'carillon_push_to_socket_seconds'),
    graph('Push to socket, 99 %, by node', 'The slowest of each node. One stands out: its machine, or it has the busiest clients.', [[quantile(0.99, 'carillon_push_to_socket_seconds', 'instance'), '{{instance}}']], { unit: 's', line: 0.25 }),
    graph('Bus: lag', "From taking a push to its arrival at a node, by Redis' clock. Under a millisecond in one data centre.", quantiles('carillon_bus_lag_seconds'), { unit: 's', line: 0.1 }),
    graph('Writes', 'Calls that write to sockets, a second, and the messages that one carried on average. Several a call is how a node keeps up under load; it is no sign of trouble.', [
      [rate('carillon_writes_total'), 'writes a second'],
      [mean('carillon_messages_per_write'), 'messages in one'],
    ]),
    graph('Waiting in the hub', 'Bytes of pushes that wait for their sockets inside a node. More than a moment: out of CPU. At HUB_QUEUE pushes are dropped ("Trouble on the bus").', [[sum('instance', of('carillon_hub_queue_bytes')), '{{instance}}']], { unit: 'bytes' }),
  ]),

  row('Who is slow?', [
    graph('Slow clients closed', 'Connections closed with 4008, a second, as they were owed more than MAX_UNSENT. On all nodes alike: the clients or what is pushed to them; on one: its network.', [[rate('carillon_slow_consumers_total', 'instance'), '{{instance}}']], { unit: 'cps', w: 12 }),
    graph('Unsent bytes', 'What sockets are owed and the kernel has not taken yet. It rises before slow clients are closed, and is memory of the node.', [[sum('instance', of('carillon_unsent_bytes')), '{{instance}}']], { unit: 'bytes', stacked: true, w: 12 }),
  ]),

  row('Is Redis well?', [
    states('Redis, as the nodes see it', 'away: pushes and new clients are refused there. recovering: the node writes itself anew. One node alone: its network; all: Redis.', `min by (instance) (${of('carillon_redis_state')})`, REDIS_STATES, { w: 8 }),
    graph('Commands, 99 %', 'From a command to its answer, by the connection it goes over. publishing is what a push waits for, registration a handshake, pool a listing. All late: Redis or the network; pool alone: large listings.', [[quantile(0.99, 'carillon_redis_command_seconds', 'connection'), '{{connection}}']], { unit: 's', line: 0.025 }),
    graph('Commands', 'Commands a second, by connection. A push to an audience is one.', [[rate('carillon_redis_command_seconds_count', 'connection'), '{{connection}}']], { unit: 'cps', stacked: true }),
    graph('Errors', "Commands that failed or were refused, a second. The nodes' logs have their texts.", [[rate('carillon_redis_errors_total', 'connection'), '{{connection}}']], { unit: 'cps' }),
    graph('Memberships that wait', 'Changes that wait to be written to Redis; handshakes wait for theirs. Seconds long: Redis is slow, or a crowd comes at once. Beyond 65,536 everything is written anew.', [[sum('instance', of('carillon_registration_queue_changes')), '{{instance}}']]),
    graph('Registration', 'Times that nodes wrote all they have to Redis anew, others that they found dead, dead registrations cleaned up, and changes in one batch. Anew again and again: somebody empties or evicts keys.', [
      [rate('carillon_registrations_total'), 'written anew a second'],
      [rate('carillon_node_deaths_total'), 'deaths a second'],
      [rate('carillon_registrations_reaped_total'), 'cleaned up a second'],
      [mean('carillon_registration_batch_changes'), 'changes in a batch'],
    ]),
    graph('Bus', 'Messages to and from the bus, a second. Received by far more than published: many nodes listen to the same audiences, which is what a cluster costs.', [
      [rate('carillon_bus_published_total'), 'published'],
      [rate('carillon_bus_received_total'), 'received'],
    ], { unit: 'cps' }),
    graph('Trouble on the bus', 'gaps: connections that may have missed a push. Lost links: Redis was away, or cut off a subscriber that fell behind (client-output-buffer-limit pubsub). lagged, dropped: the node is out of CPU. unreadable: another version or program. late acts: requests of other nodes that were not carried out.', [
      [rate('carillon_bus_gaps_total'), 'gaps'],
      [rate('carillon_bus_link_losses_total', 'reason'), 'link {{reason}}'],
      [rate('carillon_bus_lagged_total'), 'lagged'],
      [rate('carillon_hub_dropped_total'), 'dropped in the hub'],
      [rate('carillon_bus_unreadable_total'), 'unreadable'],
      [rate('carillon_bus_acts_refused_total'), 'late acts'],
    ], { unit: 'cps' }),
    graph('Subscriptions', 'Pub/sub names that each node is subscribed to: its audiences and a few of its own.', [[sum('instance', of('carillon_bus_topics')), '{{instance}}']]),
    graph('The cluster, as its nodes see it', 'Live nodes that each node counts, and channels with members anywhere. Nodes that count differently for longer than seconds: not all of them have the same Redis or REDIS_PREFIX.', [
      [`max by (instance) (${of('carillon_cluster_nodes')})`, 'nodes, by {{instance}}'],
      [`max by (instance) (${of('carillon_node_leases')})`, 'leases, by {{instance}}'],
      [`max(${of('carillon_cluster_channels')})`, 'channels'],
    ]),
    graph("Redis' memory", 'All that this Redis uses, whoever it belongs to. Growing with nobody connecting: something else fills it, or keys of dead nodes are not cleaned up ("Registration").', [[`max(${of('carillon_store_memory_bytes')})`, 'memory']], { unit: 'bytes' }),
    graph("Redis' look-ups and age", "Keys that were there and those that were not, a second, by Redis' own count, and how many hours it has run: a fall to 0 was a restart.", [
      [`max(rate(${of('carillon_store_hits_total')}[$__rate_interval]))`, 'there'],
      [`max(rate(${of('carillon_store_misses_total')}[$__rate_interval]))`, 'not there'],
      [`(time() - max(${of('carillon_store_start_time_seconds')})) / 3600`, 'hours since its start'],
    ]),
  ]),

  row('Is a drain going on?', [
    states('Ready, stopping', 'What each node was when. stopping for longer than DRAIN_DELAY + DRAIN_PERIOD: its log. not ready: /readyz has the reason. unreachable: Prometheus could not scrape it.', `max by (instance) (${NODE_STATE})`, NODE_STATES, { w: 8 }),
    graph('Connections of nodes that stop', 'Clients that are still to be sent away. It should fall evenly over DRAIN_PERIOD; what is left at the end does not answer.', [[`${sum('instance', of('carillon_connections_open'))} and on (instance) ${of('carillon_draining')} == 1`, '{{instance}}']]),
    graph('Sent away, coming back', 'Connections closed as their node stops, and those taken in by the others, a second: they should be alike, but for what a node closed after Prometheus looked last. Fewer come back: "Handshakes refused", or the load balancer.', [
      [rate('carillon_connections_closed_total', '', 'reason="going_away"'), 'sent away'],
      [rate('carillon_connections_accepted_total'), 'taken in'],
    ], { unit: 'cps' }),
  ]),

  row('Which node?', [
    nodes('Nodes', 'A line for each node. Look for the one that differs: another version, the only late one, most unsent bytes, near a limit, started a moment ago. One that can not be scraped has its state alone.', [
      [null, `group by (instance, version, commit) (${of('carillon_build_info')})`],
      ['state', `max by (instance) (${NODE_STATE})`, { mappings: NODE_STATES }],
      ['Redis', `max by (instance) (${of('carillon_redis_state')})`, { mappings: REDIS_STATES }],
      ['connections', sum('instance', of('carillon_connections_open'))],
      ['deliveries', rate('carillon_deliveries_total', 'instance'), { unit: 'cps' }],
      ['push, 99 %', quantile(0.99, 'carillon_push_to_socket_seconds', 'instance'), { unit: 's', thresholds: steps(0.1, 0.25) }],
      ['unsent', sum('instance', of('carillon_unsent_bytes')), { unit: 'bytes' }],
      ['slow closed', total('carillon_slow_consumers_total', 'instance'), { thresholds: steps(1, 100), decimals: 0 }],
      ['CPU', `${rate('process_cpu_seconds_total', 'instance')} / ${sum('instance', of('carillon_worker_threads'))}`, { unit: 'percentunit', thresholds: steps(0.7, 0.9), decimals: 0 }],
      ['memory', sum('instance', of('process_resident_memory_bytes')), { unit: 'bytes' }],
      ['of its limit', `max by (instance) (${of('process_resident_memory_bytes')} / (${of('carillon_memory_limit_bytes')} > 0))`, { unit: 'percentunit', thresholds: steps(0.6, 0.8), decimals: 0 }],
      ['files', `max by (instance) (${of('process_open_fds')} / ${of('process_max_fds')})`, { unit: 'percentunit', thresholds: steps(0.6, 0.8), decimals: 0 }],
      ['running for', `time() - max by (instance) (${of('process_start_time_seconds')})`, { unit: 's' }],
    ]),
    graph('CPU', 'Cores that each node uses. A node can use as many as it has worker threads (WORKERS). Near that: add nodes.', [
      [rate('process_cpu_seconds_total', 'instance'), '{{instance}}'],
      [`max(${of('carillon_worker_threads')})`, 'worker threads of one'],
    ]),
    graph('Memory', "Resident memory of each node, and the least limit of any (its control group's or its machine's). The kernel's socket buffers count towards it as well. Growing with the connections is normal, without them it is not.", [
      [sum('instance', of('process_resident_memory_bytes')), '{{instance}}'],
      [`min(${of('carillon_memory_limit_bytes')} > 0)`, 'limit'],
    ], { unit: 'bytes' }),
    graph('Open files', 'Share of the files that each node may open: a connection is one. At 100 % nobody gets in any more: raise the limit, or add nodes.', [[`max by (instance) (${of('process_open_fds')} / ${of('process_max_fds')})`, '{{instance}}']], { unit: 'percentunit', line: 0.8, max: 1 }),
    graph('Tasks and threads', "Tasks of each node's runtime, and threads of its process. Tasks go with connections; growing without them is a fault worth a report.", [
      [sum('instance', of('carillon_tasks')), 'tasks, {{instance}}'],
      [sum('instance', of('process_threads')), 'threads, {{instance}}'],
    ]),
    graph('Reloads', '1 while the last reload of the configuration was done. 0: it had a fault, which the log names; what was refused is as before.', [[`min by (instance) (${of('carillon_config_last_reload_successful')})`, '{{instance}}']], { max: 1 }),
  ]),

  row('Webhooks', [
    graph('Webhook calls', 'Requests to the application, by what became of them, a second. unreachable: WEBHOOK_URL or the network. status: its log. timeout: slower than WEBHOOK_TIMEOUT. overflow: more than WEBHOOK_QUEUE waited. garbage, too_long: its answers.', [[rate('carillon_webhook_calls_total', 'outcome'), '{{outcome}}']], { unit: 'cps', stacked: true }),
    graph('Webhook calls, by event', 'The same by what was told. Many closes and few opens: closes are sent again.', [[rate('carillon_webhook_calls_total', 'event'), '{{event}}']], { unit: 'cps', stacked: true }),
    graph('Webhook, 99 %', 'From an event to its answer, waiting for its turn included. A client waits so long for its handshake (open).', [[quantile(0.99, 'carillon_webhook_seconds', 'event'), '{{event}}']], { unit: 's', line: 1 }),
    graph('Webhook calls under way', 'Requests that the application has not answered yet; at WEBHOOK_CONCURRENCY further events of that node wait.', [[sum('instance', of('carillon_webhook_in_flight')), '{{instance}}']]),
    graph('Operations', "What was done of what the application's answers asked for, a second. nobody: the connection had gone. wrong: it can't be read. failed: Redis. late: beyond WEBHOOK_TIMEOUT. The log names them.", [[rate('carillon_webhook_operations_total', 'outcome'), '{{outcome}}']], { unit: 'cps' }),
    graph('Closes that wait, closes given up', 'Ends of connections that the application has not heard of yet, and those that it never will, by reason. Given up: have it compare what it knows with getConnections.', [
      [sum('instance', of('carillon_webhook_closes_waiting')), 'waiting, {{instance}}'],
      [rate('carillon_webhook_closes_given_up_total', 'reason'), 'given up a second, {{reason}}'],
    ]),
    graph("Channels' events and dead nodes' closes", 'Found, delivered, refused by the application and given up, a second. Refused again and again holds up what is behind; given up: have it compare what it knows with getChannels.', [
      [rate('carillon_channel_events_total'), 'channels occupied or vacated'],
      [rate('carillon_owed_closes_total'), 'closes of dead nodes'],
      [rate('carillon_owed_delivered_total', 'event'), 'delivered, {{event}}'],
      [rate('carillon_owed_refused_total'), 'refused'],
      [rate('carillon_owed_dropped_total'), 'given up'],
    ], { unit: 'cps', w: 16 }),
  ], { folded: true }),

  row('Device socket', [
    graph('Documents', 'Carried out, a second, by action and by who wrote them: unix is a backend at the socket, client a WebSocket (DEVICE_CLIENT_ACTIONS).', [[rate('carillon_device_actions_total', 'source, action'), '{{action}}, {{source}}']], { unit: 'cps', stacked: true }),
    graph('Documents not carried out', 'By reason, a second; most were answered with OK all the same. unknown_device: it has gone, which is normal. malformed, missing, unknown_action: what the backend writes; the log shows it.', [
      [`${rate('carillon_device_documents_refused_total', 'source, reason')} > 0`, '{{reason}}, {{source}}'],
      [rate('carillon_device_documents_refused_total'), 'all'],
    ], { unit: 'cps' }),
    graph('Connections to the socket', "Of backends, and those refused because 1,024 were open. Growing without end: a backend that doesn't close them.", [
      [sum('instance', of('carillon_device_socket_connections')), '{{instance}}'],
      [rate('carillon_device_socket_connections_refused_total'), 'refused a second'],
    ]),
  ], { folded: true }),

  row('TLS', [
    graph('Certificates expire in', 'Time left for the certificate that each node uses. Nodes that differ: one has not taken the new one.', [[`${of('carillon_tls_certificate_expiry_timestamp_seconds')} - time()`, '{{instance}}']], { unit: 's' }),
    graph('Handshakes failed', 'TLS handshakes that came to no end, a second. All of a sudden and many: an expired or wrong certificate. Some all the time: programs that scan.', [[rate('carillon_tls_handshakes_failed_total', 'instance'), '{{instance}}']], { unit: 'cps' }),
    graph('Certificates exchanged', 'Changed files that were taken or refused in the time of a point; and 1 while what is in the files is in use. Refused: the log says why, and the old one stays in use.', [
      [sum('result', `increase(${of('carillon_tls_reloads_total')}[$__rate_interval])`), '{{result}}'],
      [`min by (instance) (${of('carillon_tls_last_reload_successful')})`, 'in use, {{instance}}'],
    ]),
  ], { folded: true }),
];

// The dashboard

/** A variable that Prometheus fills. */
const variable = (name, label, query, description, more) => ({
  name,
  label,
  description,
  type: 'query',
  datasource: DATASOURCE,
  query: { query, refId: name },
  refresh: 2,
  sort: 1,
  hide: 0,
  regex: '',
  skipUrlSync: false,
  ...more,
});

const everything = (multi) => ({
  includeAll: true,
  multi,
  allValue: '.*',
  current: { text: multi ? ['All'] : 'All', value: multi ? ['$__all'] : '$__all' },
});

const dashboard = {
  uid: 'carillon',
  title: 'Carillon',
  description: 'WebSocket push: clients, pushes, lateness, Redis, nodes.',
  tags: ['carillon', 'websocket'],
  schemaVersion: 39,
  version: 1,
  editable: true,
  graphTooltip: 1,
  timezone: 'browser',
  refresh: '30s',
  time: { from: 'now-1h', to: 'now' },
  fiscalYearStartMonth: 0,
  links: [],
  annotations: {
    list: [
      {
        builtIn: 1,
        datasource: { type: 'grafana', uid: '-- Grafana --' },
        enable: true,
        hide: true,
        iconColor: 'rgba(0, 211, 255, 1)',
        name: 'Annotations & Alerts',
        type: 'dashboard',
      },
    ],
  },
  templating: {
    list: [
      {
        name: 'datasource',
        label: 'Prometheus',
        description: 'The Prometheus that scrapes the nodes.',
        type: 'datasource',
        query: 'prometheus',
        refresh: 1,
        hide: 0,
        regex: '',
        includeAll: false,
        multi: false,
        skipUrlSync: false,
        options: [],
      },
      variable('namespace', 'Namespace', 'label_values(carillon_build_info, namespace)', 'Where the cluster is, in Kubernetes; elsewhere there is none.', everything(false)),
      variable('job', 'Cluster', 'label_values(carillon_build_info{namespace=~"$namespace"}, job)', 'The Prometheus job that scrapes its nodes.', { includeAll: false, multi: false }),
      variable('instance', 'Node', 'label_values(carillon_build_info{namespace=~"$namespace", job=~"$job"}, instance)', 'One, some or all of its nodes.', everything(true)),
    ],
  },
  panels: layout(QUESTIONS),
};

const file = process.argv[2] ?? new URL('dashboard.json', import.meta.url);
writeFileSync(file, `${JSON.stringify(dashboard, null, 2)}\n`);
