// Who works on a run, where and with what: the facts of the ledger's "started" and "resumed".
#pragma once
#include "base/json.h"
#include "recipe/recipe.h"

namespace retort {

// Of this process: user, host, process, program and build, machine, network, recipe. The user's name comes
// from /etc/passwd alone: asking the system's directory might ask a network.
OrderedJson who_and_where(const LoadedRecipe& loaded);

}  // namespace retort
