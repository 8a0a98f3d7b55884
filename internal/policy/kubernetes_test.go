package policy

import (
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/bouncemeter/bouncemeter/internal/config"
)

// manifest is an object of Kubernetes, as far as the test looks.
type manifest struct {
	Kind     string
	Metadata struct{ Name string }
	Data     map[string]string
	Spec     struct {
		Selector any
		Template struct {
			Metadata struct{ Labels map[string]string }
			Spec     struct {
				SecurityContext struct {
					RunAsNonRoot bool `yaml:"runAsNonRoot"`
				} `yaml:"securityContext"`
				Containers []struct {
					Args  []string
					Ports []struct {
						ContainerPort int `yaml:"containerPort"`
					}
					SecurityContext struct {
						ReadOnlyRootFilesystem bool `yaml:"readOnlyRootFilesystem"`
					} `yaml:"securityContext"`
					VolumeMounts []struct{ Name string } `yaml:"volumeMounts"`
				}
				Volumes []struct {
					Name      string
					ConfigMap struct{ Name string } `yaml:"configMap"`
				}
			}
		}
		VolumeClaimTemplates []struct{ Metadata struct{ Name string } } `yaml:"volumeClaimTemplates"`
	}
}

func TestKubernetesManifests(t *testing.T) {
	workloads := 0
	files(t, func(name string) {
		if !strings.HasPrefix(name, "configs/kubernetes/") {
			return
		}
		configs := make(map[string]bool)
		d := yaml.NewDecoder(strings.NewReader(read(t, name)))
		for {
			var m manifest
			err := d.Decode(&m)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			switch m.Kind {
			case "ConfigMap":
				c, err := config.Parse("/etc/bouncemeter/bouncemeter.yaml", []byte(m.Data["bouncemeter.yaml"]), nil, nil)
				if err != nil {
					t.Errorf("%s: %v", name, err)
				} else if c.HTTP.Listen != ":9725" || c.StateDir() != "/var/lib/bouncemeter" {
					t.Errorf("%s: the daemon listens on %s and writes to %s, which the manifest does not expect", name, c.HTTP.Listen, c.StateDir())
				}
				configs[m.Metadata.Name] = true
			case "DaemonSet", "Deployment", "StatefulSet":
				workloads++
				pod := m.Spec.Template.Spec
				c := pod.Containers[0]
				if !pod.SecurityContext.RunAsNonRoot || !c.SecurityContext.ReadOnlyRootFilesystem {
					t.Errorf("%s: it runs as root or can write to its image", name)
				}
				if !slices.Equal(c.Args, []string{"run", "-c", "/etc/bouncemeter/bouncemeter.yaml"}) || c.Ports[0].ContainerPort != 9725 {
					t.Errorf("%s: %v", name, c)
				}
				var volumes []string
				for _, v := range pod.Volumes {
					volumes = append(volumes, v.Name)
					if v.ConfigMap.Name != "" && !configs[v.ConfigMap.Name] {
						t.Errorf("%s: there is no ConfigMap %s", name, v.ConfigMap.Name)
					}
				}
				for _, v := range m.Spec.VolumeClaimTemplates {
					volumes = append(volumes, v.Metadata.Name)
				}
				for _, mount := range c.VolumeMounts {
					if !slices.Contains(volumes, mount.Name) {
						t.Errorf("%s: there is no volume %s", name, mount.Name)
					}
				}
			}
		}
	})
	if workloads != 3 {
		t.Errorf("%d workloads", workloads)
	}
}
