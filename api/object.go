package api

import (
	"encoding/json"
	"fmt"
	"time"

	networking "istio.io/api/networking/v1alpha3"
	security "istio.io/api/security/v1beta1"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Kind names a kind of configuration object.
type Kind string

// The kinds that are honoured.
const (
	KindServiceEntry       Kind = "ServiceEntry"
	KindDestinationRule    Kind = "DestinationRule"
	KindGateway            Kind = "Gateway"
	KindPeerAuthentication Kind = "PeerAuthentication"
	KindVirtualService     Kind = "VirtualService"
	KindSidecar            Kind = "Sidecar"

	KindAuthorizationPolicy   Kind = "AuthorizationPolicy"
	KindRequestAuthentication Kind = "RequestAuthentication"
)

// Kinds lists the kinds that are honoured.
func Kinds() []Kind {
	return []Kind{KindServiceEntry, KindDestinationRule, KindGateway, KindVirtualService, KindSidecar, KindPeerAuthentication, KindAuthorizationPolicy,
		KindRequestAuthentication}
}

// API groups of the kinds.
const (
	GroupNetworking = "networking.istio.io"
	GroupSecurity   = "security.istio.io"
)

// Object is a decoded configuration object. Spec is a *networking.ServiceEntry,
// *networking.DestinationRule, *networking.Gateway, *networking.VirtualService,
// *networking.Sidecar, *security.PeerAuthentication, *security.AuthorizationPolicy or
// *security.RequestAuthentication, as Kind says.
type Object struct {
	Kind       Kind
	Namespace  string
	Name       string
	Created    time.Time
	Generation int64
	// Version is the resourceVersion: a write that names it is refused when the
	// object has changed since.
	Version string
	// Labels and Annotations are the object's own, as they stand.
	Labels, Annotations map[string]string
	Spec                proto.Message
	// Status is what a control plane wrote on the object before.
	Status Status
}

// String describes an object in logs.
func (o *Object) String() string {
	return fmt.Sprintf("%s %s/%s", o.Kind, o.Namespace, o.Name)
}

// newSpec returns an empty spec of the kind, or nil for kinds that are not
// honoured.
func newSpec(k Kind) proto.Message {
	switch k {
	case KindServiceEntry:
		return &networking.ServiceEntry{}
	case KindDestinationRule:
		return &networking.DestinationRule{}
	case KindGateway:
		return &networking.Gateway{}
	case KindVirtualService:
		return &networking.VirtualService{}
	case KindSidecar:
		return &networking.Sidecar{}
	case KindPeerAuthentication:
		return &security.PeerAuthentication{}
	case KindAuthorizationPolicy:
		return &security.AuthorizationPolicy{}
	case KindRequestAuthentication:
		return &security.RequestAuthentication{}
	}
	return nil
}

// honouredFields are the fields of a kind's spec that are acted on; nil for kinds that
// are not honoured. Any other field is refused.
func honouredFields(k Kind) fieldSet {
	switch k {
	case KindServiceEntry:
		return serviceEntryFields
	case KindDestinationRule:
		return destinationRuleFields
	case KindGateway:
		return gatewayFields
	case KindVirtualService:
		return virtualServiceFields
	case KindSidecar:
		return sidecarFields
	case KindPeerAuthentication:
		return peerAuthenticationFields
	case KindAuthorizationPolicy:
		return authorizationPolicyFields
	case KindRequestAuthentication:
		return requestAuthenticationFields
	}
	return nil
}

// Decode reads an object from JSON and validates it. Errors name the field and
// say what to do. When an error is returned together with an Object, the
// Object's Kind, Namespace, Name and Generation are filled: they tell whose the
// error is.
func Decode(raw []byte) (*Object, error) {
	var envelope struct {
		metav1.TypeMeta   `json:",inline"`
		metav1.ObjectMeta `json:"metadata"`
		Spec              json.RawMessage `json:"spec"`
		Status            json.RawMessage `json:"status"`
	}
	if err := json.Unmarshal(raw, &envelope); err != nil {
		return nil, fmt.Errorf("object: %w", err)
	}

	obj := &Object{
		Kind:        Kind(envelope.Kind),
		Namespace:   envelope.Namespace,
		Name:        envelope.Name,
		Created:     envelope.CreationTimestamp.Time,
		Generation:  envelope.Generation,
		Version:     envelope.ResourceVersion,
		Labels:      envelope.Labels,
		Annotations: envelope.Annotations,
		Status:      decodeStatus(envelope.Status, envelope.Generation),
	}

	spec := newSpec(obj.Kind)
	if spec == nil {
		return obj, &NotHonouredError{Kind: envelope.Kind}
	}
	if len(envelope.Spec) > 0 {
		if err := protojson.Unmarshal(PlainDurations(envelope.Spec, spec.ProtoReflect().Descriptor()), spec); err != nil {
			return obj, fmt.Errorf("spec: %s", plainProtoError(err))
		}
	}
	obj.Spec = spec

	if err := Validate(obj); err != nil {
		return obj, err
	}
	return obj, nil
}

// Validate checks an object that was decoded or built otherwise. The error
// lists every problem found, each with the path of its field.
func Validate(obj *Object) error {
	honoured := honouredFields(obj.Kind)
	if honoured == nil || obj.Spec == nil {
		return &NotHonouredError{Kind: string(obj.Kind)}
	}

	var p problems
	p.unsupported(obj.Spec, "spec", honoured)
	switch spec := obj.Spec.(type) {
	case *networking.ServiceEntry:
		validateServiceEntry(&p, spec)
	case *networking.DestinationRule:
		validateDestinationRule(&p, spec)
		validateLoadBalancerAnnotation(&p, obj, spec)
	case *networking.Gateway:
		validateGateway(&p, spec)
	case *networking.VirtualService:
		validateVirtualService(&p, spec)
	case *networking.Sidecar:
		validateSidecar(&p, spec)
	case *security.PeerAuthentication:
		validatePeerAuthentication(&p, spec)
	case *security.AuthorizationPolicy:
		validateAuthorizationPolicy(&p, obj, spec)
	case *security.RequestAuthentication:
		validateRequestAuthentication(&p, spec)
	default:
		return &NotHonouredError{Kind: string(obj.Kind)}
	}
	return p.err()
}
