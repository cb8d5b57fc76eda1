package telemetry

import "github.com/prometheus/client_golang/prometheus"

// MirrorResult is what became of the copy of a request that was sent to a mirror.
type MirrorResult string

// The results.
const (
	// MirrorAnswered: it was answered, with whatever status.
	MirrorAnswered MirrorResult = "answered"
	// MirrorFailed: nobody answered it, or not in time.
	MirrorFailed MirrorResult = "failed"
	// MirrorCut: the request itself ended before the whole of it had come.
	MirrorCut MirrorResult = "cut"
	// MirrorBehind: it was given up because the mirror took it in too slowly.
	MirrorBehind MirrorResult = "behind"
	// MirrorBusy: it was not made because too many were on their way.
	MirrorBusy MirrorResult = "busy"
)

func newMirrored() *prometheus.CounterVec {
	return counter("isthmus_proxy_mirrored_requests_total",
		"Copies of requests for the mirrors of a VirtualService, by what became of them: answered, failed, cut (the request itself ended early), behind (the mirror took it in too slowly), busy (too many were on their way).",
		[]string{"result"})
}

// Mirrored counts the copy of a request.
func (m *Metrics) Mirrored(r MirrorResult) { m.mirrored.WithLabelValues(string(r)).Inc() }
