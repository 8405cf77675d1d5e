-- Requests per session in ten minutes, with sketches of its addresses and path values. A flush keeps the 20,000
-- sessions with the smallest hash, so that a session is in or out everywhere alike.
WITH seen AS (
    SELECT date_bin(INTERVAL '10 minutes', window_start) AS window_start, operation, session_id,
           client_register, client_rank, path_register, path_rank
    FROM exchanges WHERE session_id IS NOT NULL
), kept AS (
    SELECT window_start, operation, session_id AS hash, count(*) AS requests,
           registers(client_register, client_rank) AS addresses,
           registers(path_register, path_rank) AS paths
    FROM seen
    GROUP BY window_start, operation, session_id
    ORDER BY session_id, window_start, operation
    LIMIT 20000
)
SELECT k.window_start, o.zone, o.host, o.method, o.endpoint, encode(k.hash, 'hex') AS session_id,
       k.requests, k.addresses, k.paths
FROM kept k JOIN operations o ON o.operation = k.operation
ORDER BY k.window_start, o.zone, o.host, o.method, o.endpoint, k.hash
