"""caterva2.publisher.metrics: counters as Prometheus reads them."""

from caterva2.publisher.metrics import Metrics


def test_the_text_is_prometheus_form() -> None:
    """Each metric has its type, and a line for each label."""
    metrics = Metrics(sent=7, changes=2)
    metrics.requests.update([200, 200, 404])
    metrics.chunks.update(["data", "same"])
    lines = metrics.text({"journal_seq": 5}).splitlines()

    assert [
        "# TYPE caterva2_http_requests_total counter",
        'caterva2_http_requests_total{status="200"} 2',
        'caterva2_http_requests_total{status="404"} 1',
        "# TYPE caterva2_http_sent_bytes_total counter",
        "caterva2_http_sent_bytes_total 7",
        "# TYPE caterva2_chunks_total counter",
        'caterva2_chunks_total{status="data"} 1',
        'caterva2_chunks_total{status="same"} 1',
        "# TYPE caterva2_changes_total counter",
        "caterva2_changes_total 2",
        "# TYPE caterva2_journal_seq gauge",
        "caterva2_journal_seq 5",
    ] == lines
