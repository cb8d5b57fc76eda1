package exchange

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/proxy/config"
	"github.com/isthmus-mesh/isthmus/proxy/outcome"
	"github.com/isthmus-mesh/isthmus/proxy/routes"
	"github.com/isthmus-mesh/isthmus/proxy/upstream"
)

var update = flag.Bool("update", false, "write what the exchange says into the stories")

// TestStories steps an exchange through testdata/*.txt. Each file is one story: lines of the form
//
//	event arguments -> what the exchange says
//
// where # begins a comment. The events are those of this package's methods; see story.step.
func TestStories(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) < 10 {
		t.Fatalf("%d stories, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			s := story{t: t, now: time.Unix(0, 0), action: &config.RouteAction{Cluster: "web"}}
			var got strings.Builder
			for line := range strings.Lines(string(want)) {
				event, _, _ := strings.Cut(strings.TrimRight(line, "\n"), " -> ")
				if event == "" || event[0] == '#' {
					got.WriteString(line)
					continue
				}
				said := s.step(strings.Fields(event))
				if said != "" {
					said = " -> " + said
				}
				got.WriteString(event + said + "\n")
			}

			switch {
			case got.String() == string(want):
			case *update:
				if err := os.WriteFile(file, []byte(got.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			default:
				t.Errorf("got\n%s\nwant\n%s\n(-update rewrites it)", got.String(), want)
			}
		})
	}
}

// story is the state of one file.
type story struct {
	t      *testing.T
	now    time.Time
	action *config.RouteAction
	direct *config.DirectResponse
	fault  *config.Fault
	in     *Incoming
	q      *routes.Target
	x      Exchange
	head   Head
}

// step does what a line says:
//
//	route [attempts=N on=A,B statuses=N,N try=1s timeout=15s direct=204 delay=1s abort=503 abortgrpc=14]
//	begin METHOD [grpc] [handback] [ending] [nowhere] [unrouted] [again] [delayed]
//	delayed
//	connected | stale | noother | bodylost | noendpoint | nocluster | callergone | overdrawn | nobudget | overflow
//	failed CAUSE [reused] [body-lost]
//	answered STATUS [grpc=N] [failed=MARK] [body-lost]
//	broke CAUSE
//	later 1s
//	maytry | outcome
func (s *story) step(words []string) string {
	args := map[string]string{}
	for _, w := range words[1:] {
		key, value, _ := strings.Cut(w, "=")
		args[key] = value
	}
	has := func(key string) bool { _, ok := args[key]; return ok }

	switch words[0] {
	case "route":
		s.route(args)
		return ""
	case "later":
		s.now = s.now.Add(s.duration(words[1]))
		return ""
	case "maytry":
		return strconv.FormatBool(s.x.MayTry())
	case "outcome":
		o := &s.x.Outcome
		return fmt.Sprintf("code %d, flag %s, grpc %d, %d tries", o.Code, o.Flag, o.GRPC, s.x.Tries())
	case "begin":
		return s.begin(words[1], has)
	case "delayed":
		s.in.Start = s.now
		return s.said(s.x.Delayed(s.in, s.q))
	case "connected":
		v := s.said(s.x.Connected(s.now))
		if !s.x.TryEnd.IsZero() {
			v += fmt.Sprintf(" until %v", s.x.TryEnd.Sub(time.Unix(0, 0)))
		}
		return v
	case "stale":
		return s.said(s.x.Stale())
	case "noendpoint":
		return s.said(s.x.NoEndpoint(errors.New("cluster web: no endpoint is left")))
	case "nocluster":
		return s.said(s.x.NoCluster())
	case "noother":
		return s.said(s.x.NoOther(&s.head))
	case "nobudget":
		return s.said(s.x.NoBudget(&s.head))
	case "overdrawn":
		return s.said(s.x.Overdrawn())
	case "overflow":
		return s.said(s.x.Overflow(errors.New("cluster web: there are too many")))
	case "bodylost":
		return s.said(s.x.BodyLost())
	case "callergone":
		s.x.CallerGone()
		return ""
	case "broke":
		s.x.Broke(s.cause(words[1]))
		return ""
	case "failed":
		return s.said(s.x.Failed(&Failure{
			Cause: s.cause(words[1]), Err: errors.New("because"), Endpoint: "10.0.0.1:80",
			Reused: has("reused"), BodyAtHand: !has("body-lost"),
		}, s.now))
	case "answered":
		s.head = Head{Status: s.number(words[1]), GRPC: outcome.NoGRPCStatus, Failed: args["failed"], BodyAtHand: !has("body-lost")}
		if has("grpc") {
			s.head.GRPC = s.number(args["grpc"])
		}
		return s.said(s.x.Answered(&s.head))
	}
	s.t.Fatalf("no such event: %q", words)
	return ""
}

func (s *story) route(args map[string]string) {
	if v, has := args["direct"]; has {
		s.direct = &config.DirectResponse{Status: s.number(v), Body: "direct"}
	}
	if v, has := args["timeout"]; has {
		s.action.Timeout = s.duration(v)
	}
	s.faults(args)
	if args["on"] == "" {
		return
	}
	p := &config.RetryPolicy{On: strings.Split(args["on"], ","), Attempts: uint32(s.number(args["attempts"]))}
	if v, has := args["try"]; has {
		p.PerTryTimeout = s.duration(v)
	}
	for _, v := range strings.FieldsFunc(args["statuses"], func(r rune) bool { return r == ',' }) {
		p.Statuses = append(p.Statuses, s.number(v))
	}
	s.action.Retry = p
}

// faults adds what the requests of the route suffer, all of them.
func (s *story) faults(args map[string]string) {
	f := config.Fault{}
	if v, has := args["delay"]; has {
		f.Delay, f.DelayShare = s.duration(v), config.Whole
	}
	if v, has := args["abort"]; has {
		f.Status, f.AbortShare = s.number(v), config.Whole
	}
	if v, has := args["abortgrpc"]; has {
		f.ByGRPC, f.GRPCStatus, f.AbortShare = true, s.number(v), config.Whole
	}
	if f != (config.Fault{}) {
		s.fault = &f
	}
}

func (s *story) begin(method string, has func(string) bool) string {
	r := &config.Route{Match: config.RouteMatch{Prefix: "/"}, Action: s.action, Fault: s.fault}
	if s.direct != nil {
		r.Action, r.Direct = nil, s.direct
	}
	domains := []string{"*"}
	if has("nowhere") {
		domains = []string{"elsewhere"}
	}
	set := upstream.NewSet(upstream.Options{})
	s.t.Cleanup(set.Close)
	in := &Incoming{
		HCM: &config.HCM{}, Scheme: "http", Start: s.now, HandBack: has("handback"), Ending: has("ending"),
		Again: has("again"), Delayed: has("delayed"),
	}
	if !has("unrouted") {
		in.Table = routes.Compile(&config.RouteConfig{Name: "80", VirtualHosts: []*config.VirtualHost{
			{Domains: domains, Routes: []*config.Route{r}},
		}}, set)
	}
	q := &routes.Target{Method: method, Authority: "web", Path: "/", GRPC: has("grpc")}
	s.in, s.q = in, q
	return s.said(s.x.Begin(in, q))
}

// said writes a verdict down.
func (s *story) said(v Verdict) string {
	out := v.Do.String()
	for _, f := range []struct {
		name string
		set  bool
	}{
		{"by " + v.For.String(), v.For > 0},
		{"after a pause", v.Wait > 0},
		{"fresh connection", v.Fresh},
		{"fresh connection if it is the same endpoint", v.Anew && !v.Fresh},
		{"avoid it", v.Avoid},
		{"blame it", v.Blame},
		{"again if it is many", v.Again},
		{"leave its priority", v.Leave},
		{"from the budget", v.Budget},
	} {
		if f.set {
			out += ", " + f.name
		}
	}
	if v.Do != Reply {
		return out
	}
	l := s.x.Local(v.Answer, "", s.now)
	out += fmt.Sprintf(" %d %s %q", l.Status, s.x.Outcome.Flag, l.Body)
	for _, f := range l.Fields {
		switch f.Name {
		case "content-type", "date", "content-length":
		default:
			out += fmt.Sprintf(", %s: %s", f.Name, f.Value)
		}
	}
	return out
}

func (s *story) cause(word string) Cause {
	c, known := map[string]Cause{
		"unreachable": Unreachable, "notsent": NotSent, "ended": Ended, "lost": Lost, "brokeoff": BrokeOff, "reset": Reset,
		"cancelled": Cancelled, "malformed": Malformed, "silent": Silent, "late": Late, "idle": Idle,
	}[word]
	if !known {
		s.t.Fatalf("no such cause: %q", word)
	}
	return c
}

func (s *story) number(word string) int {
	n, err := strconv.Atoi(word)
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}

func (s *story) duration(word string) time.Duration {
	d, err := time.ParseDuration(word)
	if err != nil {
		s.t.Fatal(err)
	}
	return d
}
