// Package configs holds the files that others read against those others' own
// models: docker-compose.yml against compose-go, which Docker Compose is made of,
// and the manifests against the types of Kubernetes. It is a module of its own, so
// that these do not become the program's.
package configs

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/yaml"
)

const root = "../.."

// TestCompose loads the file as Docker Compose does: the specification's schema,
// what the services name of each other, and the paths.
func TestCompose(t *testing.T) {
	o, err := cli.NewProjectOptions([]string{filepath.Join(root, "docker-compose.yml")}, cli.WithName("bouncemeter"))
	if err != nil {
		t.Fatal(err)
	}
	p, err := o.LoadProject(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.GetService("bouncemeter"); err != nil || len(p.Services) < 5 {
		t.Errorf("services %v, %v", p.ServiceNames(), err)
	}
	for name, s := range p.Services {
		for _, v := range s.Volumes {
			if v.Type != "bind" {
				continue
			}
			if _, err := os.Stat(v.Source); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// TestManifests decodes the manifests strictly: no field that Kubernetes does not
// know, none twice; and looks for what an operator relies on.
func TestManifests(t *testing.T) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, appsv1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	decoder := serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
	files, err := filepath.Glob(filepath.Join(root, "configs/kubernetes/*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	pods := 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		documents := yaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(text)))
		for {
			document, err := documents.Read()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			object, _, err := decoder.Decode(document, nil, nil)
			if err != nil {
				t.Errorf("%s: %v\n%.200s", file, err, document)
				continue
			}
			var pod *corev1.PodTemplateSpec
			var selector *metav1.LabelSelector
			switch o := object.(type) {
			case *appsv1.Deployment:
				pod, selector = &o.Spec.Template, o.Spec.Selector
			case *appsv1.DaemonSet:
				pod, selector = &o.Spec.Template, o.Spec.Selector
			case *appsv1.StatefulSet:
				pod, selector = &o.Spec.Template, o.Spec.Selector
			default:
				continue
			}
			pods++
			if s, err := metav1.LabelSelectorAsSelector(selector); err != nil || !s.Matches(labels.Set(pod.Labels)) {
				t.Errorf("%s: the selector %v (%v) does not find the pods with %v", file, selector, err, pod.Labels)
			}
			mounted := make(map[string]bool)
			for _, v := range pod.Spec.Volumes {
				mounted[v.Name] = true
			}
			if set, ok := object.(*appsv1.StatefulSet); ok {
				for _, claim := range set.Spec.VolumeClaimTemplates {
					mounted[claim.Name] = true
				}
			}
			for _, c := range pod.Spec.Containers {
				s := c.SecurityContext
				if s == nil || s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem || s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation || s.Capabilities == nil || len(s.Capabilities.Drop) != 1 {
					t.Errorf("%s: container %s may do more than it needs", file, c.Name)
				}
				if c.LivenessProbe == nil || c.ReadinessProbe == nil || c.Resources.Limits.Memory().IsZero() {
					t.Errorf("%s: container %s has no probes, or no limit of memory", file, c.Name)
				}
				for _, m := range c.VolumeMounts {
					if !mounted[m.Name] {
						t.Errorf("%s: container %s mounts %s, which there is not", file, c.Name, m.Name)
					}
				}
			}
			if s := pod.Spec.SecurityContext; s == nil || s.RunAsNonRoot == nil || !*s.RunAsNonRoot {
				t.Errorf("%s: it may run as root", file)
			}
		}
	}
	if pods < 2 {
		t.Errorf("only %d workloads", pods)
	}
}
