package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	admissionv1 "k8s.io/api/admission/v1"
)

// Admit decides about one request of the API server. What it returns needs no UID.
type Admit func(*admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse

// ServeReview is what a webhook does with an HTTP request: it reads the
// AdmissionReview (admission.k8s.io/v1) in its body, of at most limit bytes, and
// answers with what admit makes of it. A body that is no such review is answered
// with status 400, which the API server takes for a webhook that failed; the error
// says why.
func ServeReview(w http.ResponseWriter, r *http.Request, limit int64, admit Admit) error {
	if r.Method != http.MethodPost {
		http.Error(w, "post an AdmissionReview", http.StatusMethodNotAllowed)
		return nil
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	if err != nil {
		http.Error(w, "read the AdmissionReview: "+err.Error(), http.StatusBadRequest)
		return nil
	}

	out, err := Review(body, admit)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	// A client that has gone away gets no answer: there is nobody to tell.
	_, _ = w.Write(out)
	return nil
}

// Review answers one AdmissionReview, from JSON to JSON.
func Review(body []byte, admit Admit) ([]byte, error) {
	var in admissionv1.AdmissionReview
	if err := json.Unmarshal(body, &in); err != nil {
		return nil, fmt.Errorf("decode the AdmissionReview: %w", err)
	}
	if in.APIVersion != admissionv1.SchemeGroupVersion.String() || in.Kind != "AdmissionReview" {
		return nil, fmt.Errorf("the request is %.100q %.100q, not admission.k8s.io/v1 AdmissionReview", in.APIVersion, in.Kind)
	}
	if in.Request == nil || in.Request.UID == "" {
		return nil, errors.New("the AdmissionReview has no request with a uid")
	}

	answer := admit(in.Request)
	answer.UID = in.Request.UID
	out, err := json.Marshal(&admissionv1.AdmissionReview{TypeMeta: in.TypeMeta, Response: answer})
	if err != nil {
		return nil, fmt.Errorf("encode the answer: %w", err)
	}
	return out, nil
}
