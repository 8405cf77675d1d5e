-- Requests per entity and signal, with sketches of the endpoints and addresses behind them, and ids of some of them.
-- Only entities with a signal have rows.
SELECT e.window_start, o.zone, e.kind, e.entity, e.signal,
       count(*) AS requests,
       registers(e.endpoint_register, e.endpoint_rank) AS endpoints,
       registers(e.address_register, e.address_rank) AS addresses,
       samples(e.place, e.id) AS samples
FROM entities e JOIN operations o ON o.operation = e.operation
GROUP BY e.window_start, o.zone, e.kind, e.entity, e.signal
ORDER BY e.window_start, o.zone, e.kind, e.entity, e.signal
