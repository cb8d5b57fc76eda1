package apply

import appsv1 "k8s.io/api/apps/v1"

// RolledOut reports whether all pods of a Deployment are of its newest template,
// with as many of them available as are wanted. There may be more: an autoscaler
// takes them away when it likes.
func RolledOut(d *appsv1.Deployment) bool {
	want, s := replicas(d.Spec.Replicas), d.Status
	return s.ObservedGeneration >= d.Generation && s.UpdatedReplicas >= want &&
		s.Replicas == s.UpdatedReplicas && s.AvailableReplicas >= want
}

// SetRolledOut is RolledOut for a StatefulSet. Pods that its user replaces, by
// deleting them (OnDelete) or by lowering the partition, are not waited for.
func SetRolledOut(d *appsv1.StatefulSet) bool {
	want, s := replicas(d.Spec.Replicas), d.Status
	if d.Spec.UpdateStrategy.Type == appsv1.OnDeleteStatefulSetStrategyType {
		return true
	}
	ours := want
	if r := d.Spec.UpdateStrategy.RollingUpdate; r != nil && r.Partition != nil {
		ours = max(0, want-*r.Partition)
	}
	return s.ObservedGeneration >= d.Generation && s.UpdatedReplicas >= ours && s.ReadyReplicas >= want
}

// DaemonsRolledOut is RolledOut for a DaemonSet: on all nodes that it is for. Pods
// that its user replaces (OnDelete) are not waited for.
func DaemonsRolledOut(d *appsv1.DaemonSet) bool {
	want, s := d.Status.DesiredNumberScheduled, d.Status
	if d.Spec.UpdateStrategy.Type == appsv1.OnDeleteDaemonSetStrategyType {
		return true
	}
	return s.ObservedGeneration >= d.Generation && s.UpdatedNumberScheduled >= want && s.NumberAvailable >= want
}

// replicas is how many pods are wanted: one, where nobody says.
func replicas(n *int32) int32 {
	if n == nil {
		return 1
	}
	return *n
}
