-- Successful requests whose client certificate was revoked at the time.
SELECT window_start, zone, host, method, endpoint,
       sum(CASE WHEN mtls = 'revoked' THEN requests ELSE 0 END) AS hits,
       sum(CASE WHEN mtls = 'revoked' THEN 0 ELSE requests END) AS others
FROM endpoint_windows
WHERE status BETWEEN 200 AND 299 AND mtls <> 'not_captured'
GROUP BY window_start, zone, host, method, endpoint
