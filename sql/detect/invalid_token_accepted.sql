-- Successful requests whose best token outcome is `invalid`: some token was sent, and no configuration holds it valid.
SELECT window_start, zone, host, method, endpoint,
       sum(CASE WHEN token = 'invalid' THEN requests ELSE 0 END) AS hits,
       sum(CASE WHEN token = 'invalid' THEN 0 ELSE requests END) AS others
FROM endpoint_windows
WHERE status BETWEEN 200 AND 299 AND token IN ('valid', 'invalid', 'missing')
GROUP BY window_start, zone, host, method, endpoint
