// Package render turns a configuration into Kubernetes objects: it picks the
// charts, computes their values, renders them with Helm's engine, and changes
// the rendered objects as components.*.k8s asks.
//
// It is pure: the same configuration gives the same objects in the same order,
// which is the order to apply them in. It talks to no cluster.
package render
