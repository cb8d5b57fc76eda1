package apply

import (
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestRolledOut(t *testing.T) {
	two := int32(2)
	for name, tt := range map[string]struct {
		spec   *int32
		status appsv1.DeploymentStatus
		want   bool
	}{
		"all new": {
			spec:   &two,
			status: appsv1.DeploymentStatus{ObservedGeneration: 3, Replicas: 2, UpdatedReplicas: 2, AvailableReplicas: 2},
			want:   true,
		},
		"one is the default": {
			status: appsv1.DeploymentStatus{ObservedGeneration: 3, Replicas: 1, UpdatedReplicas: 1, AvailableReplicas: 1},
			want:   true,
		},
		"not looked at yet": {
			spec:   &two,
			status: appsv1.DeploymentStatus{ObservedGeneration: 2, Replicas: 2, UpdatedReplicas: 2, AvailableReplicas: 2},
		},
		"an old one is left": {
			spec:   &two,
			status: appsv1.DeploymentStatus{ObservedGeneration: 3, Replicas: 3, UpdatedReplicas: 2, AvailableReplicas: 2},
		},
		"one is not available": {
			spec:   &two,
			status: appsv1.DeploymentStatus{ObservedGeneration: 3, Replicas: 2, UpdatedReplicas: 2, AvailableReplicas: 1},
		},
		"more than are wanted, as while it is scaled down": {
			spec:   &two,
			status: appsv1.DeploymentStatus{ObservedGeneration: 3, Replicas: 3, UpdatedReplicas: 3, AvailableReplicas: 2},
			want:   true,
		},
	} {
		d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Generation: 3}, Spec: appsv1.DeploymentSpec{Replicas: tt.spec}, Status: tt.status}
		if got := RolledOut(d); got != tt.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

// TestSetRolledOut: a set whose user rolls it out in parts was waited for until
// the time was over, and the namespace went back to the revision it came from.
func TestSetRolledOut(t *testing.T) {
	three, one := int32(3), int32(1)
	partition := appsv1.StatefulSetUpdateStrategy{RollingUpdate: &appsv1.RollingUpdateStatefulSetStrategy{Partition: &one}}
	for name, tt := range map[string]struct {
		strategy appsv1.StatefulSetUpdateStrategy
		status   appsv1.StatefulSetStatus
		want     bool
	}{
		"all new": {
			status: appsv1.StatefulSetStatus{ObservedGeneration: 3, UpdatedReplicas: 3, ReadyReplicas: 3},
			want:   true,
		},
		"an old one is left": {
			status: appsv1.StatefulSetStatus{ObservedGeneration: 3, UpdatedReplicas: 2, ReadyReplicas: 3},
		},
		"one is not ready": {
			status: appsv1.StatefulSetStatus{ObservedGeneration: 3, UpdatedReplicas: 3, ReadyReplicas: 2},
		},
		"the user's part is old": {
			strategy: partition,
			status:   appsv1.StatefulSetStatus{ObservedGeneration: 3, UpdatedReplicas: 2, ReadyReplicas: 3},
			want:     true,
		},
		"more than the user's part is old": {
			strategy: partition,
			status:   appsv1.StatefulSetStatus{ObservedGeneration: 3, UpdatedReplicas: 1, ReadyReplicas: 3},
		},
		"replaced by the user": {
			strategy: appsv1.StatefulSetUpdateStrategy{Type: appsv1.OnDeleteStatefulSetStrategyType},
			want:     true,
		},
	} {
		d := &appsv1.StatefulSet{
			ObjectMeta: metav1.ObjectMeta{Generation: 3},
			Spec:       appsv1.StatefulSetSpec{Replicas: &three, UpdateStrategy: tt.strategy},
			Status:     tt.status,
		}
		if got := SetRolledOut(d); got != tt.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

func TestDaemonsRolledOut(t *testing.T) {
	for name, tt := range map[string]struct {
		strategy appsv1.DaemonSetUpdateStrategyType
		status   appsv1.DaemonSetStatus
		want     bool
	}{
		"all new": {
			status: appsv1.DaemonSetStatus{ObservedGeneration: 3, DesiredNumberScheduled: 2, UpdatedNumberScheduled: 2, NumberAvailable: 2},
			want:   true,
		},
		"an old one is left": {
			status: appsv1.DaemonSetStatus{ObservedGeneration: 3, DesiredNumberScheduled: 2, UpdatedNumberScheduled: 1, NumberAvailable: 2},
		},
		"one is not available": {
			status: appsv1.DaemonSetStatus{ObservedGeneration: 3, DesiredNumberScheduled: 2, UpdatedNumberScheduled: 2, NumberAvailable: 1},
		},
		"replaced by the user": {
			strategy: appsv1.OnDeleteDaemonSetStrategyType,
			want:     true,
		},
	} {
		d := &appsv1.DaemonSet{
			ObjectMeta: metav1.ObjectMeta{Generation: 3},
			Spec:       appsv1.DaemonSetSpec{UpdateStrategy: appsv1.DaemonSetUpdateStrategy{Type: tt.strategy}},
			Status:     tt.status,
		}
		if got := DaemonsRolledOut(d); got != tt.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}
