// What a part of a template's program may do, read off its nodes before it runs.
#pragma once
#include <jinja/runtime.h>

#include <functional>
#include <set>
#include <string>

namespace retort {

struct TemplateFacts {
  std::set<std::string> names;     // that it gives a value, macros too
  std::set<std::string> macros;    // that it defines
  bool one_macro_a_name = true;    // else a name does not say which it is
  bool changes_members = false;    // {% set ns.x = ... %}: what outlives a scope
  bool reads_header_flag = false;  // add_generation_prompt, other than whether it is defined
  bool computes_names = false;     // x[y], where y may be the name of anything
  bool has_blocks = false;         // macros and {% call %}
  bool calls = false;              // what may be a macro
};

// Calls `take` with each node that this one holds; some may be null.
void each_child(jinja::statement& node, const std::function<void(jinja::statement_ptr&)>& take);

// Adds those of a node. `in_macros` takes what the macros and blocks inside of it may do, wherever they run.
void gather(jinja::statement_ptr& node, TemplateFacts& facts, TemplateFacts* in_macros);

}  // namespace retort
