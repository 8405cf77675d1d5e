-- Distinct sessions and clients per hour and operation, as HyperLogLog registers (register → rank) that merge by
-- maximum. Not multiplied by the other dimensions.
WITH seen AS (
    SELECT date_trunc('hour', window_start) AS window_start, operation, 'sessions' AS measure,
           session_register AS register, max(session_rank) AS rank
    FROM exchanges WHERE session_register IS NOT NULL
    GROUP BY 1, operation, session_register
    UNION ALL
    SELECT date_trunc('hour', window_start) AS window_start, operation, 'clients' AS measure,
           client_register AS register, max(client_rank) AS rank
    FROM exchanges WHERE client_register IS NOT NULL
    GROUP BY 1, operation, client_register
)
SELECT s.window_start, o.zone, o.host, o.method, o.endpoint,
       registers(CASE WHEN s.measure = 'sessions' THEN s.register END, s.rank) AS sessions,
       registers(CASE WHEN s.measure = 'clients' THEN s.register END, s.rank) AS clients
FROM seen s JOIN operations o ON o.operation = s.operation
GROUP BY s.window_start, o.zone, o.host, o.method, o.endpoint
ORDER BY s.window_start, o.zone, o.host, o.method, o.endpoint
