package httpproxy

import (
	"net"

	"github.com/isthmus-mesh/isthmus/proxy/downstream"
)

type h2Side struct{}
type h2pool struct{ pool *endpointPool }

func newH2Side(*Server) *h2Side                                        { return &h2Side{} }
func (*h2Side) serve(h *Handler, conn net.Conn, info *downstream.Info) {}
func (*h2pool) retire()                                                {}
func (s *session) forwardH2(q *target)                                 {}
