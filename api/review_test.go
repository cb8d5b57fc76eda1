package api

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
)

func TestServeReview(t *testing.T) {
	const head = `{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"`
	for name, tt := range map[string]struct {
		method, body string
		code         int
		says         string
		told         bool
	}{
		"review": {
			method: http.MethodPost,
			body:   head + `, "request": {"uid": "u1"}}`,
			code:   http.StatusOK,
			says:   `"response":{"uid":"u1","allowed":true}`,
		},
		"no JSON": {
			method: http.MethodPost,
			body:   "pod",
			code:   http.StatusBadRequest,
			says:   "decode the AdmissionReview",
			told:   true,
		},
		"another version": {
			method: http.MethodPost,
			body:   `{"apiVersion": "admission.k8s.io/v1beta1", "kind": "AdmissionReview", "request": {"uid": "u1"}}`,
			code:   http.StatusBadRequest,
			says:   `"admission.k8s.io/v1beta1" "AdmissionReview", not admission.k8s.io/v1 AdmissionReview`,
			told:   true,
		},
		"no request": {
			method: http.MethodPost,
			body:   head + `}`,
			code:   http.StatusBadRequest,
			says:   "no request with a uid",
			told:   true,
		},
		"no uid": {
			method: http.MethodPost,
			body:   head + `, "request": {}}`,
			code:   http.StatusBadRequest,
			says:   "no request with a uid",
			told:   true,
		},
		"too long": {
			method: http.MethodPost,
			body:   head + `, "request": {"uid": "` + strings.Repeat("u", 1000) + `"}}`,
			code:   http.StatusBadRequest,
			says:   "too large",
		},
		"not posted": {
			method: http.MethodGet,
			code:   http.StatusMethodNotAllowed,
			says:   "post an AdmissionReview",
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := httptest.NewRecorder()
			r := httptest.NewRequest(tt.method, "/", strings.NewReader(tt.body))
			err := ServeReview(w, r, 1000, func(*admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
				return &admissionv1.AdmissionResponse{Allowed: true}
			})
			if w.Code != tt.code || !strings.Contains(w.Body.String(), tt.says) || (err != nil) != tt.told {
				t.Errorf("answered %d %s and told %v", w.Code, w.Body, err)
			}
		})
	}
}
