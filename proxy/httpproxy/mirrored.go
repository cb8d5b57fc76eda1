package httpproxy

import "strconv"

// mirrorRequest sends copies of the request to its route's mirrors; its head is in s.scratch.
func (s *session) mirrorRequest() {
	if s.upgrade == "" { // what the two sides say then is theirs
		s.mirrors = s.h.server.mirror(s.call.Route, s.info, s.scratch)
	}
}

// leaveMirrors tells the copies that the request is over.
func (s *session) leaveMirrors() {
	u := &s.up1
	whole := s.replayable || u.started && !u.running() && u.err == nil
	for _, m := range s.mirrors {
		m.leave(whole)
	}
	s.mirrors = nil
}

// mirrorLocked sends copies of the request to its route's mirrors, with what came of its body so far.
func (p *pair) mirrorLocked() {
	p.mirrored = true
	as := p.req
	as.authority, as.path, as.fields = p.fields[2].Value, p.fields[3].Value, p.fields[4:] // encode
	p.chunked = p.req.length < 0 && !p.bareLocked()
	p.mirrors = p.srv.h.server.mirror(p.call.Route, p.srv.info, as.head(p.chunked))
	if p.mirrors == nil {
		return
	}
	p.copyLocked(p.replay)
	if p.end {
		p.endCopyLocked()
	}
}

// copyLocked gives the copies a piece of the body.
func (p *pair) copyLocked(b []byte) {
	if len(b) == 0 {
		return
	}
	if p.chunked {
		line := append(strconv.AppendInt(make([]byte, 0, len(b)+20), int64(len(b)), 16), "\r\n"...)
		b = append(append(line, b...), "\r\n"...)
	}
	for _, m := range p.mirrors {
		m.pass(b)
	}
}

// endCopyLocked ends the body for the copies, with the trailers if there are any: only chunks can be followed by them.
func (p *pair) endCopyLocked() {
	if !p.chunked {
		return
	}
	end := []byte("0\r\n")
	for _, f := range p.trailers {
		end = appendField(end, f.Name, f.Value)
	}
	end = append(end, "\r\n"...)
	for _, m := range p.mirrors {
		m.pass(end)
	}
}
