-- Successful requests that violate the schema of their operation.
SELECT window_start, zone, host, method, endpoint,
       sum(CASE WHEN schema_request = 'violates' THEN requests ELSE 0 END) AS hits,
       sum(CASE WHEN schema_request = 'violates' THEN 0 ELSE requests END) AS others
FROM endpoint_windows
WHERE status BETWEEN 200 AND 299 AND schema_request IN ('conforms', 'violates')
GROUP BY window_start, zone, host, method, endpoint
