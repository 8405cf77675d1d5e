-- Requests per session in ten minutes, with sketches of its addresses and path values, and the id of one. A flush keeps the 20,000
-- sessions with the smallest hash: whole sessions, and nearly the same ones in every flush.
WITH chosen AS (
    SELECT DISTINCT session_id AS hash FROM exchanges WHERE session_id IS NOT NULL ORDER BY hash LIMIT 20000
), kept AS (
    -- date_bin answers in nanoseconds; every time column is in milliseconds.
    SELECT arrow_cast(date_bin(INTERVAL '10 minutes', e.window_start), 'Timestamp(Millisecond, Some("UTC"))') AS window_start,
           e.operation, c.hash,
           count(*) AS requests,
           registers(e.client_register, e.client_rank) AS addresses,
           registers(e.path_register, e.path_rank) AS paths,
           max(e.id) AS sample
    FROM exchanges e JOIN chosen c ON c.hash = e.session_id
    GROUP BY 1, e.operation, c.hash
)
SELECT k.window_start, o.zone, o.host, o.method, o.endpoint, encode(k.hash, 'hex') AS session_id,
       k.requests, k.addresses, k.paths, k.sample
FROM kept k JOIN operations o ON o.operation = k.operation
ORDER BY k.window_start, o.zone, o.host, o.method, o.endpoint, k.hash
