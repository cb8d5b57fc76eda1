package exchange

// Known is a field that is asked for in every message: engines that have numbers for such fields need not look it up by
// its text.
type Known uint8

const (
	ForwardedClientCert Known = iota
	ForwardedProto
	RequestID
	ServerField
	Failed
	// Knowns is how many there are.
	Knowns
)

// String returns the name of the field, in lower case.
func (k Known) String() string { return knownNames[k] }

var knownNames = [Knowns]string{
	ForwardedClientCert: xfcc,
	ForwardedProto:      forwardedProto,
	RequestID:           requestID,
	ServerField:         "server",
	Failed:              FailedField,
}
