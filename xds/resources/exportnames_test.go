package resources

import (
	"testing"

	mcs "sigs.k8s.io/mcs-api/pkg/apis/v1beta1"
)

// TestNamesOfConditions are those that the API has.
func TestNamesOfConditions(t *testing.T) {
	for ours, theirs := range map[string]string{
		conditionValid:    string(mcs.ServiceExportConditionValid),
		conditionReady:    string(mcs.ServiceExportConditionReady),
		conditionConflict: string(mcs.ServiceExportConditionConflict),

		reasonNoService:           string(mcs.ServiceExportReasonNoService),
		reasonInvalidType:         string(mcs.ServiceExportReasonInvalidServiceType),
		reasonExported:            string(mcs.ServiceExportReasonExported),
		reasonFailed:              string(mcs.ServiceExportReasonFailed),
		reasonNoConflicts:         string(mcs.ServiceExportReasonNoConflicts),
		reasonPort:                string(mcs.ServiceExportReasonPortConflict),
		reasonType:                string(mcs.ServiceExportReasonTypeConflict),
		reasonAffinity:            string(mcs.ServiceExportReasonSessionAffinityConflict),
		reasonAffinityConfig:      string(mcs.ServiceExportReasonSessionAffinityConfigConflict),
		reasonInternalPolicy:      string(mcs.ServiceExportReasonInternalTrafficPolicyConflict),
		reasonTrafficDistribution: string(mcs.ServiceExportReasonTrafficDistributionConflict),
	} {
		if ours != theirs {
			t.Errorf("%q is %q in the API", ours, theirs)
		}
	}
}
