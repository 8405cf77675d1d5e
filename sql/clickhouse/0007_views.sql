-- Figures for dashboards and for people, see README.md one folder up. A range ends with the newest minute that has a
-- request, as in `gatewatch report`; it is read as minutes at its edges and hours between, so it is exact to the minute.

CREATE OR REPLACE VIEW ${database}.endpoint_windows_over ${on_cluster} AS
WITH
    (SELECT toInt64(toUnixTimestamp(max(window_start))) FROM ${database}.endpoint_windows) AS newest,
    toDateTime(newest, 'UTC') AS as_of_minute,
    toDateTime(greatest(newest + 60 - 60 * toInt64({minutes:UInt32}), 0), 'UTC') AS from_minute,
    toDateTime(intDiv(greatest(newest + 60 - 60 * toInt64({minutes:UInt32}), 0) + 3599, 3600) * 3600, 'UTC') AS first_hour,
    greatest(first_hour, toDateTime(intDiv(newest + 60, 3600) * 3600, 'UTC')) AS end_hour
SELECT as_of_minute AS as_of, * EXCEPT (stored_at)
FROM ${database}.endpoint_windows
WHERE (window_start >= from_minute AND window_start < first_hour) OR (window_start >= end_hour AND window_start <= as_of_minute)
UNION ALL
SELECT as_of_minute AS as_of, * EXCEPT (stored_at)
FROM ${database}.endpoint_windows_hours
WHERE window_start >= first_hour AND window_start < end_hour;

CREATE OR REPLACE VIEW ${database}.identifier_windows_over ${on_cluster} AS
WITH
    (SELECT toInt64(toUnixTimestamp(max(window_start))) FROM ${database}.endpoint_windows) AS newest,
    toDateTime(newest, 'UTC') AS as_of_minute,
    toDateTime(greatest(newest + 60 - 60 * toInt64({minutes:UInt32}), 0), 'UTC') AS from_minute,
    toDateTime(intDiv(greatest(newest + 60 - 60 * toInt64({minutes:UInt32}), 0) + 3599, 3600) * 3600, 'UTC') AS first_hour,
    greatest(first_hour, toDateTime(intDiv(newest + 60, 3600) * 3600, 'UTC')) AS end_hour
SELECT * EXCEPT (stored_at)
FROM ${database}.identifier_windows
WHERE (window_start >= from_minute AND window_start < first_hour) OR (window_start >= end_hour AND window_start <= as_of_minute)
UNION ALL
SELECT * EXCEPT (stored_at)
FROM ${database}.identifier_windows_hours
WHERE window_start >= first_hour AND window_start < end_hour;

CREATE OR REPLACE VIEW ${database}.endpoint_posture ${on_cluster} AS
WITH
    counted AS
    (
        SELECT
            zone, host, method, endpoint,
            any(as_of) AS as_of,
            sum(requests) AS total,
            sumIf(requests, status BETWEEN 100 AND 199) AS requests_1xx,
            sumIf(requests, status BETWEEN 200 AND 299) AS requests_2xx,
            sumIf(requests, status BETWEEN 300 AND 399) AS requests_3xx,
            sumIf(requests, status BETWEEN 400 AND 499) AS requests_4xx,
            sumIf(requests, status BETWEEN 500 AND 599) AS requests_5xx,
            sumIf(requests, status = 0) AS requests_none,
            sumIf(requests, session = 'present' AND status BETWEEN 200 AND 299) AS successful_present,
            sumIf(requests, session = 'absent' AND status BETWEEN 200 AND 299) AS successful_absent,
            sumIf(requests, session = 'not_captured' AND status BETWEEN 200 AND 299) AS successful_not_captured,
            sumIf(requests, session = 'present') AS session_present,
            sumIf(requests, session = 'absent') AS session_absent,
            sumIf(requests, session = 'not_captured') AS session_not_captured,
            sumIf(requests, session = 'not_configured') AS session_not_configured,
            sumIf(requests, token = 'valid') AS token_valid,
            sumIf(requests, token = 'missing') AS token_missing,
            sumIf(requests, token = 'invalid') AS token_invalid,
            sumIf(requests, token = 'not_captured') AS token_not_captured,
            sumIf(requests, token = 'not_evaluated') AS token_not_evaluated,
            sumIf(requests, schema_request = 'conforms') AS request_conforms,
            sumIf(requests, schema_request = 'violates') AS request_violates,
            sumIf(requests, schema_request = 'no_operation') AS request_no_operation,
            sumIf(requests, schema_request = 'not_evaluated') AS request_not_evaluated,
            sumIf(requests, schema_response = 'conforms') AS response_conforms,
            sumIf(requests, schema_response = 'violates') AS response_violates,
            sumIf(requests, schema_response = 'no_operation') AS response_no_operation,
            sumIf(requests, schema_response = 'not_evaluated') AS response_not_evaluated,
            sumIf(requests, schema_request = 'violates' AND status BETWEEN 200 AND 299) AS successful_violating,
            sumIf(requests, mtls = 'verified') AS mtls_verified,
            sumIf(requests, mtls = 'absent') AS mtls_absent,
            sumIf(requests, mtls = 'failed') AS mtls_failed,
            sumIf(requests, mtls = 'revoked') AS mtls_revoked,
            sumIf(requests, mtls = 'not_captured') AS mtls_not_captured,
            sum(request_bytes) AS bytes_in,
            sum(response_bytes) AS bytes_out,
            if(sum(durations) = 0, NULL, sum(duration_us) / sum(durations) / 1000) AS mean_duration_ms
        FROM ${database}.endpoint_windows_over(minutes = {minutes:UInt32})
        GROUP BY zone, host, method, endpoint
    ),
    -- Labels are those of the last 24 hours, whatever the range.
    shown AS
    (
        SELECT
            zone, host, method, endpoint,
            sumIf(requests, session = 'present') AS present,
            sumIf(requests, session = 'absent') AS absent
        FROM ${database}.endpoint_windows_over(minutes = 1440)
        WHERE status BETWEEN 200 AND 299
        GROUP BY zone, host, method, endpoint
    ),
    named AS
    (
        SELECT zone, host, method, endpoint, sumMap(map(toString(identifier), toUInt64(requests))) AS identifiers
        FROM ${database}.identifier_windows_over(minutes = {minutes:UInt32})
        WHERE status_class = '2xx' AND identifier != 'none'
        GROUP BY zone, host, method, endpoint
    )
SELECT
    counted.zone AS zone,
    counted.host AS host,
    counted.method AS method,
    counted.endpoint AS endpoint,
    counted.* EXCEPT (zone, host, method, endpoint, total, bytes_in, bytes_out, mean_duration_ms),
    counted.total AS requests,
    named.identifiers AS identifiers,
    counted.bytes_in AS request_bytes,
    counted.bytes_out AS response_bytes,
    counted.mean_duration_ms AS mean_duration_ms,
    multiIf(
        counted.method IN ('OPTIONS', 'HEAD') OR shown.absent = 0, [],
        shown.present = 0, ['cf-risk-missing-auth'],
        ['cf-risk-mixed-auth']
    ) AS labels
FROM counted
LEFT JOIN shown USING (zone, host, method, endpoint)
LEFT JOIN named USING (zone, host, method, endpoint);

CREATE OR REPLACE VIEW ${database}.endpoint_posture_24h ${on_cluster} AS
SELECT * FROM ${database}.endpoint_posture(minutes = 1440);

CREATE OR REPLACE VIEW ${database}.endpoint_posture_7d ${on_cluster} AS
SELECT * FROM ${database}.endpoint_posture(minutes = 10080);

CREATE OR REPLACE VIEW ${database}.authentication_over_time ${on_cluster} AS
SELECT
    window_start, zone, host, method, endpoint, identifier,
    sum(requests) AS requests_total,
    sumIf(requests, status_class = '2xx') AS successful
FROM ${database}.identifier_windows
GROUP BY window_start, zone, host, method, endpoint, identifier;

CREATE OR REPLACE VIEW ${database}.token_outcomes ${on_cluster} AS
SELECT
    window_start, zone, host, method, endpoint, configuration, outcome, reason,
    sum(requests) AS requests_total,
    sumIf(requests, status_class = '2xx') AS successful
FROM ${database}.token_windows
GROUP BY window_start, zone, host, method, endpoint, configuration, outcome, reason;

CREATE OR REPLACE VIEW ${database}.schema_violations ${on_cluster} AS
SELECT
    window_start, zone, host, method, endpoint, direction, location, class, target,
    sum(violations) AS violations_total,
    sumIf(violations, status_class = '2xx') AS successful
FROM ${database}.violation_windows
GROUP BY window_start, zone, host, method, endpoint, direction, location, class, target;

CREATE OR REPLACE VIEW ${database}.client_certificates ${on_cluster} AS
SELECT
    window_start, zone, host, method, endpoint, mtls, mtls_reason,
    sum(requests) AS requests_total,
    sumIf(requests, status BETWEEN 200 AND 299) AS successful
FROM ${database}.endpoint_windows
GROUP BY window_start, zone, host, method, endpoint, mtls, mtls_reason;
