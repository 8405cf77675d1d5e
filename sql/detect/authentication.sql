-- Successful requests with and without a session identifier. "Not captured" counts for neither.
SELECT window_start, zone, host, method, endpoint,
       sum(CASE WHEN session = 'absent' THEN requests ELSE 0 END) AS hits,
       sum(CASE WHEN session = 'present' THEN requests ELSE 0 END) AS others
FROM endpoint_windows
WHERE status BETWEEN 200 AND 299 AND session IN ('present', 'absent')
GROUP BY window_start, zone, host, method, endpoint
