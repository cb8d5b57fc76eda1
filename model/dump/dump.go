// Package dump shows the tables of a model.Store as JSON over HTTP, for people
// who look for a mistake. It is no interface to build on: the form follows the
// rows.
package dump

import (
	"encoding/json"
	"net/http"

	"github.com/isthmus-mesh/isthmus/model"
)

// Endpoints serves, for /debug/endpointz, the endpoints of every service; with
// ?host=NAME those of one.
func Endpoints(store *model.Store) http.Handler {
	return handler(store, func(r *http.Request, txn model.ReadTxn) any {
		out := []*model.EndpointSet{}
		host := r.URL.Query().Get("host")
		for e := range store.Endpoints.All(txn) {
			if host == "" || e.Host == host {
				out = append(out, e)
			}
		}
		return out
	})
}

// Config serves, for /debug/configz, the services, policies and gateways in
// force, and the mesh configuration.
func Config(store *model.Store) http.Handler {
	return handler(store, func(_ *http.Request, txn model.ReadTxn) any {
		return map[string]any{
			"services":               rows(store.Services, txn),
			"destinationRules":       rows(store.Destinations, txn),
			"virtualServices":        rows(store.Virtuals, txn),
			"sidecars":               rows(store.Sidecars, txn),
			"peerAuthentications":    rows(store.Peers, txn),
			"authorizationPolicies":  rows(store.Policies, txn),
			"requestAuthentications": rows(store.Authentications, txn),
			"gateways":               rows(store.Gateways, txn),
			"networks":               rows(store.Networks, txn),
			"entrances":              rows(store.Entrances, txn),
			"mesh":                   rows(store.Meshes, txn),
		}
	})
}

func rows[R model.Row](t model.Table[R], txn model.ReadTxn) []R {
	out := []R{}
	for r := range t.All(txn) {
		out = append(out, r)
	}
	return out
}

// handler answers with what read finds in a snapshot.
func handler(store *model.Store, read func(*http.Request, model.ReadTxn) any) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		JSON(w, read(r, store.Read()))
	})
}

// JSON answers with a value, for people.
func JSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	// An error here is a client that went away.
	_ = enc.Encode(v)
}
