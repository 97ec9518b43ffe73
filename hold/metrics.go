package hold

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	requests      *prometheus.CounterVec
	uploads       prometheus.Counter
	uploadedBytes prometheus.Counter
	reads         prometheus.Counter
	backups       *prometheus.CounterVec
	backupLast    prometheus.Gauge
	backupNext    prometheus.Gauge
}

func newMetrics() *metrics {
	name := func(n, help string) prometheus.CounterOpts {
		return prometheus.CounterOpts{Namespace: "atcr", Subsystem: "hold", Name: n, Help: help}
	}
	return &metrics{
		requests: prometheus.NewCounterVec(name("xrpc_requests_total", "XRPC requests by method and outcome."), []string{"method",
			"outcome"}),
		uploads:       prometheus.NewCounter(name("uploads_total", "Uploads that were completed.")),
		uploadedBytes: prometheus.NewCounter(name("uploaded_bytes_total", "Bytes of completed uploads.")),
		reads:         prometheus.NewCounter(name("blob_reads_total", "Reads of layers that were answered with bytes.")),
		backups: prometheus.NewCounterVec(name("backups_total", "Backups of the schedule by outcome: ok or failed."),
			[]string{"outcome"}),
		backupLast: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: "atcr", Subsystem: "hold",
			Name: "backup_last_success_timestamp_seconds", Help: "When the newest successful backup of the schedule was begun; 0: never.",
		}),
		backupNext: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: "atcr", Subsystem: "hold",
			Name: "backup_next_timestamp_seconds", Help: "When the next backup of the schedule is due; 0: there is none.",
		}),
	}
}

func (m *metrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.requests, m.uploads, m.uploadedBytes, m.reads, m.backups, m.backupLast, m.backupNext}
}
