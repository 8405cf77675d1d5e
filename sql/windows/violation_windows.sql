-- Violations per place in the message; one exchange may have several.
WITH counted AS (
    SELECT window_start, operation, status_class, direction, location, class, target, count(*) AS violations
    FROM violations
    GROUP BY window_start, operation, status_class, direction, location, class, target
)
SELECT c.window_start, o.zone, o.host, o.method, o.endpoint, c.status_class,
       c.direction, c.location, c.class, c.target, sum(c.violations) AS violations
FROM counted c JOIN operations o ON o.operation = c.operation
GROUP BY c.window_start, o.zone, o.host, o.method, o.endpoint, c.status_class,
         c.direction, c.location, c.class, c.target
ORDER BY c.window_start, o.zone, o.host, o.method, o.endpoint, c.status_class,
         c.direction, c.location, c.class, c.target
