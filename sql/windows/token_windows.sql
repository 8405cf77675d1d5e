-- Requests per token configuration and outcome; `reason` is empty unless the outcome is `invalid`.
WITH counted AS (
    SELECT window_start, operation, status_class, configuration, outcome, reason, count(*) AS requests
    FROM tokens
    GROUP BY window_start, operation, status_class, configuration, outcome, reason
)
SELECT c.window_start, o.zone, o.host, o.method, o.endpoint, c.status_class, c.configuration, c.outcome, c.reason,
       sum(c.requests) AS requests
FROM counted c JOIN operations o ON o.operation = c.operation
GROUP BY c.window_start, o.zone, o.host, o.method, o.endpoint, c.status_class, c.configuration, c.outcome, c.reason
ORDER BY c.window_start, o.zone, o.host, o.method, o.endpoint, c.status_class, c.configuration, c.outcome, c.reason
