#pragma once

#include <string>
#include <vector>

#include "grammar/automaton.h"

namespace tandem {

// For each rule all that the answers to it depend on, of whatever grammar it is: its states, and those of the
// rules that it calls, and they. Rules with equal keys have equal states in the same order. Empty for the
// first rule, which is a grammar's own, for those that call it, and where it would take long.
std::vector<std::string> ruleKeys(const GrammarTables& tables);

}  // namespace tandem
