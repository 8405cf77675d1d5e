-- Requests per minute, operation, status and every verdict.
-- The inner query groups integers and inlined strings; names join and durations spread out on its few result rows.
WITH counted AS (
    SELECT window_start, operation, status, session, token, schema_request, schema_response, mtls, mtls_reason,
           CASE WHEN duration_us IS NULL THEN NULL
                WHEN duration_us <= 5000 THEN 5
                WHEN duration_us <= 10000 THEN 10
                WHEN duration_us <= 25000 THEN 25
                WHEN duration_us <= 50000 THEN 50
                WHEN duration_us <= 100000 THEN 100
                WHEN duration_us <= 250000 THEN 250
                WHEN duration_us <= 500000 THEN 500
                WHEN duration_us <= 1000000 THEN 1000
                WHEN duration_us <= 2500000 THEN 2500
                WHEN duration_us <= 5000000 THEN 5000
                ELSE 10000 END AS bucket,
           count(*) AS requests,
           sum(request_bytes) AS request_bytes,
           sum(response_bytes) AS response_bytes,
           count(duration_us) AS durations,
           sum(coalesce(duration_us, 0)) AS duration_us
    FROM exchanges
    GROUP BY window_start, operation, status, session, token, schema_request, schema_response, mtls, mtls_reason, bucket
)
SELECT c.window_start, o.zone, o.host, o.method, o.endpoint, c.status,
       c.session, c.token, c.schema_request, c.schema_response, c.mtls, c.mtls_reason,
       sum(c.requests) AS requests,
       sum(c.request_bytes) AS request_bytes,
       sum(c.response_bytes) AS response_bytes,
       sum(c.durations) AS durations,
       sum(c.duration_us) AS duration_us,
       -- One column per bucket, not cumulative; the last one is everything over five seconds.
       sum(CASE WHEN c.bucket = 5 THEN c.requests ELSE 0 END) AS duration_5ms,
       sum(CASE WHEN c.bucket = 10 THEN c.requests ELSE 0 END) AS duration_10ms,
       sum(CASE WHEN c.bucket = 25 THEN c.requests ELSE 0 END) AS duration_25ms,
       sum(CASE WHEN c.bucket = 50 THEN c.requests ELSE 0 END) AS duration_50ms,
       sum(CASE WHEN c.bucket = 100 THEN c.requests ELSE 0 END) AS duration_100ms,
       sum(CASE WHEN c.bucket = 250 THEN c.requests ELSE 0 END) AS duration_250ms,
       sum(CASE WHEN c.bucket = 500 THEN c.requests ELSE 0 END) AS duration_500ms,
       sum(CASE WHEN c.bucket = 1000 THEN c.requests ELSE 0 END) AS duration_1000ms,
       sum(CASE WHEN c.bucket = 2500 THEN c.requests ELSE 0 END) AS duration_2500ms,
       sum(CASE WHEN c.bucket = 5000 THEN c.requests ELSE 0 END) AS duration_5000ms,
       sum(CASE WHEN c.bucket = 10000 THEN c.requests ELSE 0 END) AS duration_over
FROM counted c JOIN operations o ON o.operation = c.operation
GROUP BY c.window_start, o.zone, o.host, o.method, o.endpoint, c.status,
         c.session, c.token, c.schema_request, c.schema_response, c.mtls, c.mtls_reason
ORDER BY c.window_start, o.zone, o.host, o.method, o.endpoint, c.status,
         c.session, c.token, c.schema_request, c.schema_response, c.mtls, c.mtls_reason
