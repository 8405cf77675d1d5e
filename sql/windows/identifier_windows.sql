-- Requests per session identifier; `none` where every identifier was absent.
WITH counted AS (
    SELECT window_start, operation, status_class, identifier, count(*) AS requests
    FROM identifiers
    GROUP BY window_start, operation, status_class, identifier
)
SELECT c.window_start, o.zone, o.host, o.method, o.endpoint, c.status_class, c.identifier,
       sum(c.requests) AS requests
FROM counted c JOIN operations o ON o.operation = c.operation
GROUP BY c.window_start, o.zone, o.host, o.method, o.endpoint, c.status_class, c.identifier
ORDER BY c.window_start, o.zone, o.host, o.method, o.endpoint, c.status_class, c.identifier
