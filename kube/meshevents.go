package kube

import (
	"context"
	"log/slog"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/scheme"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/record"
)

// meshKind is what the mesh configuration is counted as; its API has no group.
var meshKind = schema.GroupKind{Kind: "MeshConfig"}

// maxEventMessage bounds an Event's message, bytes: the API server refuses
// longer ones in events.k8s.io, as which people may read it.
const maxEventMessage = 1000

// startEvents makes the recorder of Events, which sends them by itself, so that
// nobody waits for the API server while a transaction is open, until ctx ends.
func (r *Reader) startEvents(ctx context.Context) {
	if r.cfg.MeshConfigMap == "" {
		return
	}
	broadcaster := record.NewBroadcaster(record.WithContext(ctx))
	broadcaster.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: r.clients.Kube.CoreV1().Events(r.cfg.Namespace)})
	r.events = broadcaster.NewRecorder(scheme.Scheme, corev1.EventSource{Component: "istiod"})
}

// tellMesh says what of the mesh configuration is not in force: once per change,
// in the log and by an Event on its ConfigMap, which has no status to hold it.
// An empty text says that all is.
func (r *Reader) tellMesh(level slog.Level, what, text string) {
	if text == r.meshTold {
		return
	}

	r.meshTold = text
	if text == "" {
		return
	}

	r.log.Log(context.Background(), level, what, "configmap", r.cfg.Namespace+"/"+r.cfg.MeshConfigMap, "fields", text)
	cm, ok := lookup[*corev1.ConfigMap](r.builtins.mesh, r.cfg.Namespace, r.cfg.MeshConfigMap)
	if !ok || r.events == nil {
		return
	}

	message := what + ": " + text
	if len(message) > maxEventMessage {
		message = strings.ToValidUTF8(message[:maxEventMessage], "") + " … (all of it is in istiod's log)"
	}
	r.events.Event(cm, corev1.EventTypeWarning, "NotInForce", message)
}
