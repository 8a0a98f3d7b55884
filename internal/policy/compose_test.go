package policy

import (
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/bouncemeter/bouncemeter/internal/config"
)

// composeFile is docker-compose.yml, as far as it is used. Other keys are faults.
type composeFile struct {
	Services map[string]struct {
		Image       string            `yaml:"image"`
		Build       map[string]string `yaml:"build"`
		Restart     string            `yaml:"restart"`
		ReadOnly    bool              `yaml:"read_only"`
		CapDrop     []string          `yaml:"cap_drop"`
		SecurityOpt []string          `yaml:"security_opt"`
		GroupAdd    []string          `yaml:"group_add"`
		Environment map[string]string `yaml:"environment"`
		Command     []string          `yaml:"command"`
		Volumes     []string          `yaml:"volumes"`
		Ports       []string          `yaml:"ports"`
		Healthcheck map[string]any    `yaml:"healthcheck"`
		DependsOn   map[string]struct {
			Condition string `yaml:"condition"`
		} `yaml:"depends_on"`
	} `yaml:"services"`
	Volumes map[string]any `yaml:"volumes"`
}

func readCompose(t *testing.T) composeFile {
	t.Helper()
	var c composeFile
	d := yaml.NewDecoder(strings.NewReader(read(t, "docker-compose.yml")))
	d.KnownFields(true)
	if err := d.Decode(&c); err != nil {
		t.Fatal(err)
	}
	return c
}

// What is mounted from the tree has to be there: Docker would silently make an
// empty folder of it.
func TestComposeMountsExist(t *testing.T) {
	c := readCompose(t)
	used := make(map[string]bool)
	for name, service := range c.Services {
		places := make(map[string]bool)
		for _, volume := range service.Volumes {
			part := strings.Split(volume, ":")
			if len(part) < 2 || !path.IsAbs(part[1]) || places[part[1]] {
				t.Errorf("service %s: the mount %s has no place of its own", name, volume)
				continue
			}
			places[part[1]] = true
			if strings.HasPrefix(part[0], "./") {
				if _, err := os.Stat(filepath.Join(root, part[0])); err != nil {
					t.Errorf("service %s mounts %s: %v", name, part[0], err)
				}
				if !strings.HasSuffix(volume, ":ro") {
					t.Errorf("service %s can write to %s", name, part[0])
				}
				continue
			}
			used[part[0]] = true
			if _, ok := c.Volumes[part[0]]; !ok {
				t.Errorf("service %s mounts the volume %s, which is not listed", name, part[0])
			}
		}
	}
	for name := range c.Volumes {
		if !used[name] {
			t.Errorf("nobody mounts the volume %s", name)
		}
	}
}

func TestComposeServices(t *testing.T) {
	c := readCompose(t)
	stages := regexp.MustCompile(`(?m)^FROM \S+ AS (\w+)$`).FindAllStringSubmatch(read(t, "Dockerfile"), -1)
	for _, name := range []string{"bouncemeter", "traffic", "kafka", "postgres", "prometheus", "alertmanager", "grafana"} {
		if _, ok := c.Services[name]; !ok {
			t.Errorf("there is no service %s", name)
		}
	}
	taken := make(map[string]string)
	for name, s := range c.Services {
		if (s.Image == "") == (s.Build == nil) {
			t.Errorf("service %s has not either an image or a build", name)
		}
		if s.Image != "" && (!strings.Contains(s.Image, ":") || strings.HasSuffix(s.Image, ":latest")) {
			t.Errorf("service %s: %s may be another image tomorrow", name, s.Image)
		}
		if s.Build != nil {
			if !slices.ContainsFunc(stages, func(m []string) bool { return m[1] == s.Build["target"] }) {
				t.Errorf("service %s: Dockerfile has no stage %s", name, s.Build["target"])
			}
			if !s.ReadOnly || !slices.Equal(s.CapDrop, []string{"ALL"}) {
				t.Errorf("service %s may write to its image, or has capabilities", name)
			}
		}
		for other, d := range s.DependsOn {
			on, ok := c.Services[other]
			if !ok || d.Condition == "service_healthy" && on.Healthcheck == nil {
				t.Errorf("service %s waits for %s, which is not there or has no health check", name, other)
			}
		}
		for _, p := range s.Ports {
			if !strings.HasPrefix(p, "127.0.0.1:") {
				t.Errorf("service %s: others can reach %s", name, p)
			}
			if port := strings.Split(p, ":")[1]; taken[port] != "" {
				t.Errorf("services %s and %s share port %s", name, taken[port], port)
			} else {
				taken[port] = name
			}
		}
	}
}

// Every address in what is mounted is a service, at the port where it listens.
func TestComposeAddresses(t *testing.T) {
	ports := map[string]string{"bouncemeter": "9725", "kafka": "9092", "postgres": "5432", "prometheus": "9090", "alertmanager": "9093", "grafana": "3000"}
	c := readCompose(t)
	for name, port := range ports {
		if p := c.Services[name].Ports; len(p) > 0 && !strings.HasSuffix(p[0], ":"+port) {
			t.Errorf("service %s publishes %s, want port %s", name, p, port)
		}
	}
	address := regexp.MustCompile(`\b(` + strings.Join([]string{"bouncemeter", "kafka", "postgres", "prometheus", "alertmanager", "grafana"}, "|") + `):(\d+)`)
	found := 0
	files(t, func(name string) {
		if !strings.HasPrefix(name, "configs/compose/") {
			return
		}
		for _, m := range address.FindAllStringSubmatch(read(t, name), -1) {
			found++
			if m[2] != ports[m[1]] {
				t.Errorf("%s: %s, which listens on %s", name, m[0], ports[m[1]])
			}
		}
	})
	if found < 4 {
		t.Errorf("%d addresses found", found)
	}
	loaded, err := config.Parse("/configs/compose/bouncemeter.yaml", []byte(read(t, "configs/compose/bouncemeter.yaml")), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if loaded.HTTP.Listen != ":9725" {
		t.Errorf("the daemon listens on %s, which is not what is published", loaded.HTTP.Listen)
	}
	traffic := strings.Join(c.Services["traffic"].Command, " ")
	for _, want := range []string{loaded.Sources[0].Paths[0], loaded.Sources[1].Topics[0], loaded.Sources[1].Brokers[0]} {
		if !strings.Contains(traffic, want) {
			t.Errorf("the generator does not write to %s: %s", want, traffic)
		}
	}
}
