// Who works on a run, where and with what: the facts of the ledger's "started" and "resumed".
#pragma once
#include "base/json.h"
#include "recipe/recipe.h"
#include "report/ledger.h"

namespace retort {

// Of this process: user, host, process, program and build, machine, network, recipe. The user's name comes
// from /etc/passwd alone: asking the system's directory might ask a network.
OrderedJson who_and_where(const LoadedRecipe& loaded);

// The same of a run's entries, for a page that people read: when it was begun, by whom, where, with which
// build, what could have reached a network, how often it went on. Nothing of a ledger without a beginning.
std::vector<std::pair<std::string, std::string>> beginning_of(const std::vector<LedgerEntry>& entries);

}  // namespace retort
