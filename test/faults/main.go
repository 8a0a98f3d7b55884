// Command faults tries every fault that is promised to do no harm.
package main

const figureMark = "figure: "

func main() {}
