package main

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
)

// throughput is what TestServerThroughput tells of a program.
var throughput = regexp.MustCompile(`: (counting|source|Reader|kcat)[:,].*?([0-9]+) records/s, ([0-9.]+) CPU s a million`)

// kafkaGoals takes what the test with a real Kafka tells, if that can be fetched
// and run here.
func kafkaGoals(built) ([]goal, error) {
	const million = " CPU s a million records"
	all := []goal{
		{what: "Kafka: counting records on one core", bound: 400_000, unit: " a second"},
		{what: "… only reading them", bound: 0.4, most: true, unit: million},
		{what: "… kafka-go's `Reader`, in the same run", unit: million},
		{what: "… kcat (librdkafka), in the same run", unit: million},
	}
	for i := range all {
		all[i].by = "test/kafkatest/run.sh"
	}
	for _, command := range []string{"java", "mvn"} {
		if _, err := exec.LookPath(command); err != nil {
			for i := range all {
				all[i].needs = "Java and Maven, which test/kafkatest/run.sh installs"
			}
			return all, nil
		}
	}
	cmd := exec.Command("go", "test", "-count", "1", "-v", "-run", "TestServerThroughput", "./test/kafkatest")
	cmd.Env = append(os.Environ(), "E2E_SERVERS=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("%w\n%s", err, out)
	}
	records, cpu := map[string]float64{}, map[string]float64{}
	for _, m := range throughput.FindAllStringSubmatch(string(out), -1) {
		if records[m[1]], err = strconv.ParseFloat(m[2], 64); err != nil {
			return nil, err
		}
		if cpu[m[1]], err = strconv.ParseFloat(m[3], 64); err != nil {
			return nil, err
		}
	}
	for _, name := range []string{"counting", "source", "Reader"} {
		if cpu[name] == 0 {
			return nil, fmt.Errorf("nothing is told of %s in\n%s", name, out)
		}
	}
	all[0].figure, all[1].figure, all[2].figure, all[3].figure = records["counting"], cpu["source"], cpu["Reader"], cpu["kcat"]
	if cpu["kcat"] == 0 {
		all[3].needs = "kcat, which test/kafkatest/run.sh installs"
	}
	return all, nil
}
