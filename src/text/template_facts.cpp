#include "text/template_facts.h"

namespace retort {
namespace {

template <class Node> Node* as(jinja::statement& node) { return dynamic_cast<Node*>(&node); }

bool is_number(const jinja::statement_ptr& node) {
  if (const auto* unary = jinja::cast_stmt<jinja::unary_expression>(node)) return is_number(unary->argument);
  return jinja::is_stmt<jinja::integer_literal>(node);
}

// Whether what stands in brackets can be no other name than the template spells: a number, a sum with one.
bool is_spelled(const jinja::statement_ptr& property) {
  if (const auto* sum = jinja::cast_stmt<jinja::binary_expression>(property))
    return (sum->op.value == "+" || sum->op.value == "-") && (is_number(sum->left) || is_number(sum->right));
  return is_number(property) || jinja::is_stmt<jinja::string_literal>(property) ||
         jinja::is_stmt<jinja::slice_expression>(property);
}

// Whether this is called is known to be no macro: a function, or a method of a text or an object.
bool is_known(const jinja::statement_ptr& callee) {
  static const std::set<std::string> kFunctions = {"raise_exception", "strftime_now", "namespace", "dict",
                                                   "range"},
                                     kMethods = {"strip",    "lstrip", "rstrip", "split", "startswith",
                                                 "endswith", "upper",  "lower",  "title", "replace",
                                                 "items",    "keys",   "values", "get"};
  if (const auto* name = jinja::cast_stmt<jinja::identifier>(callee)) return kFunctions.contains(name->val);
  const auto* member = jinja::cast_stmt<jinja::member_expression>(callee);
  const auto* method =
      member && !member->computed ? jinja::cast_stmt<jinja::identifier>(member->property) : nullptr;
  return method && kMethods.contains(method->val);
}

void name_of(const jinja::statement_ptr& node, std::set<std::string>& names) {
  if (const auto* name = jinja::cast_stmt<jinja::identifier>(node)) names.insert(name->val);
  if (const auto* tuple = jinja::cast_stmt<jinja::tuple_literal>(node))
    for (const auto& one : tuple->val) name_of(one, names);
}

}  // namespace

void each_child(jinja::statement& node, const std::function<void(jinja::statement_ptr&)>& take) {
  const auto all = [&](jinja::statements& some) {
    for (auto& one : some) take(one);
  };
  if (auto* branch = as<jinja::if_statement>(node)) {
    take(branch->test), all(branch->body), all(branch->alternate);
  } else if (auto* loop = as<jinja::for_statement>(node)) {
    take(loop->loopvar), take(loop->iterable), all(loop->body), all(loop->default_block);
  } else if (auto* set = as<jinja::set_statement>(node)) {
    take(set->assignee), take(set->val), all(set->body);
  } else if (auto* macro = as<jinja::macro_statement>(node)) {
    take(macro->name), all(macro->args), all(macro->body);
  } else if (auto* member = as<jinja::member_expression>(node)) {
    take(member->object), take(member->property);
  } else if (auto* call = as<jinja::call_expression>(node)) {
    take(call->callee), all(call->args);
  } else if (auto* list = as<jinja::array_literal>(node)) {
    all(list->val);
  } else if (auto* tuple = as<jinja::tuple_literal>(node)) {
    all(tuple->val);
  } else if (auto* object = as<jinja::object_literal>(node)) {
    for (auto& [key, value] : object->val) take(key), take(value);
  } else if (auto* binary = as<jinja::binary_expression>(node)) {
    take(binary->left), take(binary->right);
  } else if (auto* filter = as<jinja::filter_expression>(node)) {
    take(filter->operand), take(filter->filter);
  } else if (auto* block = as<jinja::filter_statement>(node)) {
    take(block->filter), all(block->body);
  } else if (auto* select = as<jinja::select_expression>(node)) {
    take(select->lhs), take(select->test);
  } else if (auto* test = as<jinja::test_expression>(node)) {
    take(test->operand), take(test->test);
  } else if (auto* unary = as<jinja::unary_expression>(node)) {
    take(unary->argument);
  } else if (auto* slice = as<jinja::slice_expression>(node)) {
    take(slice->start_expr), take(slice->stop_expr), take(slice->step_expr);
  } else if (auto* named = as<jinja::keyword_argument_expression>(node)) {
    take(named->key), take(named->val);
  } else if (auto* spread = as<jinja::spread_expression>(node)) {
    take(spread->argument);
  } else if (auto* called = as<jinja::call_statement>(node)) {
    take(called->call), all(called->caller_args), all(called->body);
  } else if (auto* output = as<jinja::output_statement>(node)) {
    take(output->val);
  } else if (auto* choice = as<jinja::ternary_expression>(node)) {
    take(choice->condition), take(choice->true_expr), take(choice->false_expr);
  }
}

void gather(jinja::statement_ptr& node, TemplateFacts& facts, TemplateFacts* in_macros) {
  if (!node) return;
  const auto go_on = [&](jinja::statement_ptr& child) { gather(child, facts, in_macros); };
  if (const auto* name = jinja::cast_stmt<jinja::identifier>(node)) {
    facts.reads_header_flag |= name->val == "add_generation_prompt";
  } else if (auto* set = as<jinja::set_statement>(*node)) {
    name_of(set->assignee, facts.names);
    facts.changes_members |= jinja::is_stmt<jinja::member_expression>(set->assignee);
    go_on(set->val);
    for (auto& one : set->body) go_on(one);
  } else if (auto* member = as<jinja::member_expression>(*node)) {
    go_on(member->object);
    if (member->computed) {
      facts.computes_names |= !is_spelled(member->property);
      go_on(member->property);
    }
  } else if (auto* call = as<jinja::call_expression>(*node)) {
    facts.calls |= !is_known(call->callee);
    each_child(*node, go_on);
  } else if (auto* named = as<jinja::keyword_argument_expression>(*node)) {
    go_on(named->val);
  } else if (auto* test = as<jinja::test_expression>(*node)) {
    const auto* kind = jinja::cast_stmt<jinja::identifier>(test->test);
    if (!kind || kind->val != "defined" || !jinja::is_stmt<jinja::identifier>(test->operand))
      go_on(test->operand);
    if (!kind) go_on(test->test);
  } else if (as<jinja::macro_statement>(*node) || as<jinja::call_statement>(*node)) {
    facts.has_blocks = true;
    if (auto* macro = as<jinja::macro_statement>(*node)) {
      const auto before = facts.macros.size();
      name_of(macro->name, facts.macros);
      name_of(macro->name, facts.names);
      facts.one_macro_a_name &= facts.macros.size() > before;
    }
    each_child(*node, go_on);
    if (in_macros)
      each_child(*node, [&](jinja::statement_ptr& child) { gather(child, *in_macros, nullptr); });
  } else {
    each_child(*node, go_on);
  }
}

}  // namespace retort
