package discovery

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// Streams last half an hour, so that a replica that has come since has none for
// long, and those that were there have all of them. Each replica therefore compares
// what it has with what the others have, and sends a part of its surplus away; the
// way back leads to any of them. Where nobody has more than a tenth above its share,
// nothing happens.
const (
	// spreadRound is the time between two comparisons.
	spreadRound = 2 * time.Second
	// spreadSlack is how much above its share, in parts of ten, a replica may have.
	spreadSlack = 1
	// spreadPart is the part of the surplus that goes in one round. With as many
	// as come back to where they were, three replicas in the place of one have
	// equal shares, nearly, after some 40 s.
	spreadPart = 4
	// maxSpread bounds what goes in one round: each is a TLS handshake elsewhere.
	maxSpread = 400
	// spreadSteps are how many times in a round some go.
	spreadSteps = 10
	// streamsTime is for another replica's answer, and streamsBytes its length.
	streamsTime  = time.Second
	streamsBytes = 4 << 10
	// streamsPath is the page that replicas ask each other for, on the port that
	// the Service calls monitoringPort.
	streamsPath    = "/streams"
	monitoringPort = "http-monitoring"
)

// streamCount is that page: no secret, since /metrics says as much.
type streamCount struct {
	Replica string `json:"replica"`
	Streams int    `json:"streams"`
}

func (s *Server) serveStreams(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(streamCount{s.cfg.Pod, s.xds.Streams()}) // the caller has gone
}

// surplus is how many of its streams a replica should send away in this round,
// when it has own, and the others have these.
func surplus(own int, others []int) int {
	total, replicas := own, len(others)+1
	for _, n := range others {
		total += n
	}
	// Rounded up: three streams on two replicas are two and one.
	most := (total*(10+spreadSlack) + replicas*10 - 1) / (replicas * 10)
	if own <= most {
		return 0
	}
	return min((own-most+spreadPart-1)/spreadPart, maxSpread)
}

// spreader keeps a replica from having more streams than its share.
type spreader struct {
	replica string
	round   time.Duration
	streams func() int
	shed    func(int) int
	// addresses are those of all replicas that are ready, HOST:PORT.
	addresses func() []string
	ask       func(ctx context.Context, address string) (streamCount, error)
	log       *slog.Logger
}

func (s *Server) newSpreader() *spreader {
	client := &http.Client{Timeout: streamsTime, Transport: &http.Transport{DisableKeepAlives: true}}
	return &spreader{
		replica: s.cfg.Pod, round: s.spreadRound, log: s.log,
		streams: s.xds.Streams, shed: s.xds.Shed,
		addresses: s.replicaAddresses,
		ask: func(ctx context.Context, address string) (streamCount, error) {
			return askStreams(ctx, client, address)
		},
	}
}

// replicaAddresses are where the replicas of the control plane have their page; none
// when the Service does not tell.
func (s *Server) replicaAddresses() []string {
	endpoints, _ := s.replicas(s.store.Read())
	var out []string
	for _, e := range endpoints {
		port, ok := e.Ports[monitoringPort]
		if !ok {
			return nil
		}
		out = append(out, net.JoinHostPort(e.Address, strconv.Itoa(int(port))))
	}
	return out
}

func askStreams(ctx context.Context, client *http.Client, address string) (c streamCount, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+streamsPath, nil)
	if err != nil {
		return c, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return c, err
	}
	defer func() { _ = resp.Body.Close() }() // it was only read
	if resp.StatusCode != http.StatusOK {
		return c, fmt.Errorf("it answers %s", resp.Status)
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, streamsBytes)).Decode(&c); err != nil {
		return c, err
	}
	if c.Replica == "" || c.Streams < 0 || c.Streams > maxConns {
		return c, fmt.Errorf("it tells of %d streams at %q", c.Streams, c.Replica)
	}
	return c, nil
}

// run compares and sends away until ctx ends.
func (p *spreader) run(ctx context.Context) {
	next := time.NewTicker(p.round)
	defer next.Stop()
	for {
		select {
		case <-next.C:
		case <-ctx.Done():
			return
		}
		others, ok := p.others(ctx)
		if !ok {
			continue
		}
		if n := surplus(p.streams(), others); n > 0 {
			p.sendAway(ctx, n, others)
		}
	}
}

// others asks the other replicas. It is false when there are none, when one does
// not answer, since it may take no streams either, and when this one is not led to:
// its share is then not known.
func (p *spreader) others(ctx context.Context) ([]int, bool) {
	addresses := p.addresses()
	if len(addresses) < 2 {
		return nil, false
	}

	var counts []int
	self := false
	for _, a := range addresses {
		c, err := p.ask(ctx, a)
		if err != nil {
			p.log.Debug("a replica does not tell how many streams it has", "address", a, "error", err)
			return nil, false
		}
		if c.Replica == p.replica {
			self = true
			continue
		}
		counts = append(counts, c.Streams)
	}
	return counts, self && len(counts) > 0
}

// sendAway ends n streams, in steps over a round.
func (p *spreader) sendAway(ctx context.Context, n int, others []int) {
	tick := time.NewTicker(p.round / spreadSteps)
	defer tick.Stop()
	sent := 0
	for left := spreadSteps; left > 0 && sent < n; left-- {
		some := (n - sent + left - 1) / left
		went := p.shed(some)
		sent += went
		if went < some {
			break // the others were sent away before
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
	if sent > 0 {
		p.log.Info("sent proxies to other replicas", "sent", sent, "left", p.streams(), "others", slices.Sorted(slices.Values(others)))
	}
}
