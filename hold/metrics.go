package hold

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	requests      *prometheus.CounterVec
	uploads       prometheus.Counter
	uploadedBytes prometheus.Counter
	reads         prometheus.Counter
}

func newMetrics() *metrics {
	name := func(n, help string) prometheus.CounterOpts {
		return prometheus.CounterOpts{Namespace: "atcr", Subsystem: "hold", Name: n, Help: help}
	}
	return &metrics{
		requests:      prometheus.NewCounterVec(name("xrpc_requests_total", "XRPC requests by method and outcome."), []string{"method", "outcome"}),
		uploads:       prometheus.NewCounter(name("uploads_total", "Uploads that were completed.")),
		uploadedBytes: prometheus.NewCounter(name("uploaded_bytes_total", "Bytes of completed uploads.")),
		reads:         prometheus.NewCounter(name("blob_reads_total", "Reads of layers that were answered with bytes.")),
	}
}

func (m *metrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.requests, m.uploads, m.uploadedBytes, m.reads}
}
