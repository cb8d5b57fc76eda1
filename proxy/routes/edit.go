package routes

import (
	"strings"

	"github.com/isthmus-mesh/isthmus/proxy/config"
)

// EditKind is what an Edit does.
type EditKind uint8

// The kinds of edits.
const (
	// Remove takes all fields of the name out.
	Remove EditKind = iota
	// Set puts the value in the place of all fields of the name.
	Set
	// Append adds a field.
	Append
	// AddIfAbsent adds a field if there is none of the name.
	AddIfAbsent
)

// Edit is one change of header fields.
type Edit struct {
	Do    EditKind
	Name  string // in lower case
	Value string
}

// edit makes the edits of all levels, the first of which comes first.
func (r *Route) edit(levels []*config.HeaderEdits) {
	r.Request, r.Response = nil, nil
	for _, level := range levels {
		r.Request = edits(r.Request, level.RequestRemove, level.RequestAdd)
		r.Response = edits(r.Response, level.ResponseRemove, level.ResponseAdd)
	}
}

// edits appends those of one level.
func edits(list []Edit, remove []string, add []config.HeaderEdit) []Edit {
	for _, name := range remove {
		list = append(list, Edit{Do: Remove, Name: strings.ToLower(name)})
	}
	for _, e := range add {
		kind := Set
		switch {
		case e.IfAbsent:
			kind = AddIfAbsent
		case e.Append:
			kind = Append
		}
		list = append(list, Edit{kind, strings.ToLower(e.Name), e.Value})
	}
	return list
}
