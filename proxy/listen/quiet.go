package listen

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"
)

// quiet logs what peers can bring about at will: one line a second at Info,
// the others at Debug, with how many were passed over. Metrics count all. It
// is safe for concurrent use.
type quiet struct {
	log     *slog.Logger
	last    atomic.Int64 // unix seconds of the last line
	skipped atomic.Int64
}

// event logs one event.
func (q *quiet) event(msg string, args ...any) {
	now, last := time.Now().Unix(), q.last.Load()
	level := slog.LevelDebug
	if now != last && q.last.CompareAndSwap(last, now) {
		level = slog.LevelInfo
		if n := q.skipped.Swap(0); n > 0 {
			args = append(args, "more", n)
		}
	} else {
		q.skipped.Add(1)
	}
	q.log.Log(context.Background(), level, msg, args...)
}
