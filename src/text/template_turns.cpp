#include "text/template_turns.h"

#include <algorithm>
#include <iterator>
#include <memory>
#include <unordered_map>

#include "text/template_watch.h"

namespace retort {
namespace {

constexpr const char* kHeaderFlag = "add_generation_prompt";

// Appends what a statement came to, as the interpreter puts results together.
void add(TemplateParts& out, jinja::value result) {
  if (result->is_undefined()) return;
  if (!jinja::is_val<jinja::value_string>(result)) {
    auto text = jinja::mk_val<jinja::value_string>();
    jinja::gather_string_parts_recursive(result, text);
    result = std::move(text);
  }
  auto& parts = result->val_str.parts;
  if (result.use_count() == 1)
    out.insert(out.end(), std::make_move_iterator(parts.begin()), std::make_move_iterator(parts.end()));
  else out.insert(out.end(), parts.begin(), parts.end());
}

// Whether two runs that were given the same have come to the same values.
class Alike {
 public:
  explicit Alike(const std::set<std::string>& macros) : macros_(macros) {}

  bool operator()(const jinja::value& a, const jinja::value& b) {
    if (a == b) return true;
    // What was given is the same for both runs, so that something else that was given is another thing.
    if (a->kinds() != b->kinds() || a->frozen || b->frozen) return false;
    if (a->is_undefined() || a->is_none()) return true;
    if (jinja::is_val<jinja::value_bool>(a)) return a->val_int == b->val_int;
    if (jinja::is_val<jinja::value_int>(a)) return a->val_int == b->val_int;
    if (jinja::is_val<jinja::value_float>(a))
      return a->val_flt == b->val_flt && a->as_string().str() == b->as_string().str();
    if (jinja::is_val<jinja::value_string>(a)) return texts(a->val_str, b->val_str);
    if (jinja::is_val<jinja::value_func>(a)) return functions(a, b);
    if (!jinja::is_val<jinja::value_array>(a) && !jinja::is_val<jinja::value_object>(a)) return false;
    // Two names of one thing must be names of one thing in the other run.
    const auto [to, fresh] = there_.emplace(a.get(), b.get());
    const auto [back, fresh_too] = back_.emplace(b.get(), a.get());
    if (to->second != b.get() || back->second != a.get()) return false;
    if (!fresh || !fresh_too) return true;
    return jinja::is_val<jinja::value_array>(a) ? lists(a, b) : objects(a, b);
  }

 private:
  static bool texts(const jinja::string& a, const jinja::string& b) {
    return a.safe == b.safe && std::equal(a.parts.begin(), a.parts.end(), b.parts.begin(), b.parts.end(),
                                          [](const auto& x, const auto& y) {
                                            return x.is_input == y.is_input && x.val == y.val;
                                          });
  }
  bool functions(const jinja::value& a, const jinja::value& b) const {
    const auto* one = jinja::cast_val<jinja::value_func>(a);
    const auto* other = jinja::cast_val<jinja::value_func>(b);
    return one->name == other->name && !one->arg0 && !other->arg0 && macros_.contains(one->name) &&
           !jinja::global_builtins().contains(one->name);
  }
  bool lists(const jinja::value& a, const jinja::value& b) {
    const auto* messages = dynamic_cast<const WatchedMessages*>(a.get());
    const auto* others = dynamic_cast<const WatchedMessages*>(b.get());
    if (messages || others) return messages && others && messages->first == others->first;
    const auto &x = a->val_arr, &y = b->val_arr;
    for (size_t i = 0; i < x.size(); ++i)
      if (i >= y.size() || !(*this)(x[i], y[i])) return false;
    return x.size() == y.size();
  }
  bool objects(const jinja::value& a, const jinja::value& b) {
    const auto &x = a->val_obj, &y = b->val_obj;
    for (size_t i = 0; i < x.size(); ++i)
      if (i >= y.size() || !(*this)(x[i].first, y[i].first) || !(*this)(x[i].second, y[i].second))
        return false;
    return x.size() == y.size();
  }
  const std::set<std::string>& macros_;
  std::unordered_map<const jinja::value_t*, const jinja::value_t*> there_, back_;
};

jinja::value watched(const std::vector<jinja::value>& messages, size_t count, Looks& looks) {
  return std::make_shared<WatchedMessages>(
      std::vector<jinja::value>(messages.begin(), messages.begin() + static_cast<std::ptrdiff_t>(count)), 0,
      looks);
}

// `loop`, as the interpreter makes it.
void fill_loop(jinja::value_object_t& loop, const std::vector<jinja::value>& items, size_t i, size_t count) {
  static const auto name = [](const char* text) { return jinja::mk_val<jinja::value_string>(text); };
  static const jinja::value kIndex = name("index"), kIndex0 = name("index0"), kRevindex = name("revindex"),
                            kRevindex0 = name("revindex0"), kFirst = name("first"), kLast = name("last"),
                            kLength = name("length"), kPrevious = name("previtem"), kNext = name("nextitem");
  const auto number = [](size_t value) -> jinja::value {
    return jinja::mk_val<jinja::value_int>(static_cast<int64_t>(value));
  };
  const auto item = [&](bool there, size_t which, const char* hint) -> jinja::value {
    if (there) return items[which];
    return jinja::mk_val<jinja::value_undefined>(hint);
  };
  loop.has_builtins = false;
  loop.insert(kIndex, number(i + 1));
  loop.insert(kIndex0, number(i));
  loop.insert(kRevindex, number(count - i));
  loop.insert(kRevindex0, number(count - i - 1));
  loop.insert(kFirst, jinja::mk_val<jinja::value_bool>(i == 0));
  loop.insert(kLast, jinja::mk_val<jinja::value_bool>(i + 1 == count));
  loop.insert(kLength, number(count));
  loop.insert(kPrevious, item(i > 0, i - 1, "previtem"));
  loop.insert(kNext, item(i + 1 < count, i + 1, "nextitem"));
}

// But members of `message`, which is one of the messages: there are many, and none is a list of them.
void watch(jinja::statement_ptr& node, const std::string& message) {
  if (!node) return;
  each_child(*node, [&](jinja::statement_ptr& child) { watch(child, message); });
  auto* member = dynamic_cast<jinja::member_expression*>(node.get());
  const auto* name =
      member && member->computed ? jinja::cast_stmt<jinja::identifier>(member->object) : nullptr;
  if (name && name->val != message) node = std::make_unique<WatchedMember>(*member);
}

}  // namespace

TemplateTurns::TemplateTurns(jinja::program& program) : program_(program) {
  auto& body = program.body;
  const jinja::for_statement* loop = nullptr;
  for (size_t i = 0; i < body.size(); ++i) {
    const auto* one = dynamic_cast<const jinja::for_statement*>(body[i].get());
    if (!one || !jinja::is_stmt<jinja::identifier>(one->loopvar) ||
        !jinja::is_stmt<jinja::identifier>(one->iterable) || !one->default_block.empty())
      continue;
    loop = one;
    at_ = i;
  }
  if (!loop) return;
  TemplateFacts before, inside, behind, in_macros;
  for (size_t i = 0; i < body.size(); ++i)
    gather(body[i], i < at_ ? before : i == at_ ? inside : behind, &in_macros);
  // What stands behind the loop is run once for each beginning: nothing of it may stay.
  const auto leaves_nothing = [&](const TemplateFacts& facts) {
    return !facts.changes_members && !facts.has_blocks && !facts.computes_names &&
           (!facts.calls || (!in_macros.changes_members && !in_macros.computes_names));
  };
  if (!leaves_nothing(behind) || !before.one_macro_a_name) return;
  loop_ = loop;
  header_before_ = before.reads_header_flag || in_macros.reads_header_flag;
  header_inside_ = inside.reads_header_flag || in_macros.reads_header_flag;
  again_ = leaves_nothing(inside);
  names_ = before.names;
  names_.insert("messages");
  macros_ = before.macros;
  for (auto& one : body) watch(one, jinja::cast_stmt<jinja::identifier>(loop->loopvar)->val);
}

class TemplateTurns::Run {
 public:
  Run(const TemplateTurns& turns, const std::vector<jinja::value>& messages, bool reply_header,
      const Fill& fill, std::vector<Beginning>& beginnings)
      : turns_(turns), messages_(messages), header_(reply_header), fill_(fill), beginnings_(beginnings) {}

  TemplateParts whole() {
    const auto& body = turns_.program_.body;
    const auto flag = set_up(context_, messages_.size(), looks_, header_);
    for (size_t i = 0; i < turns_.at_; ++i) add(out_, body[i]->execute(context_));
    before_ = out_.size();
    needed_before_ = looks_.needs;
    looks_.needs = 1;
    const auto given = turns_.loop_->iterable->execute(context_);
    const auto* list = dynamic_cast<const WatchedMessages*>(given.get());
    if (list && list->belongs_to(looks_) && context_.get_val(kHeaderFlag) == flag) go_through(*list);
    else add(out_, body[turns_.at_]->execute(context_));
    for (size_t i = turns_.at_ + 1; i < body.size(); ++i) add(out_, body[i]->execute(context_));
    return std::move(out_);
  }

 private:
  // The flag that it sets: where the template, or the record, sets another one, that is what counts.
  jinja::value set_up(jinja::context& context, size_t count, Looks& looks, bool reply_header) const {
    const jinja::value flag = jinja::mk_val<jinja::value_bool>(reply_header);
    context.set_val(kHeaderFlag, flag);
    fill_(context, watched(messages_, count, looks));
    return flag;
  }

  void go_through(const WatchedMessages& list) {
    jinja::context scope(context_);
    const auto& items = list.all();
    for (size_t i = 0; i < items.size(); ++i) {
      const auto begun = out_.size(), needed = looks_.needs;
      auto loop = std::make_shared<WatchedLoop>(list.first + i, looks_);
      fill_loop(*loop, items, i, items.size());
      if (!turn(scope, items[i], std::move(loop), out_)) return;
      for (auto& one : beginnings_)
        if (one.messages == list.first + i + 1) share(one, scope, list, i, begun, needed);
    }
  }

  // False where the template breaks off.
  bool turn(const jinja::context& scope, const jinja::value& item, jinja::value loop,
            TemplateParts& out) const {
    jinja::context iteration(scope);
    iteration.set_val("loop", loop);
    iteration.set_val(jinja::cast_stmt<jinja::identifier>(turns_.loop_->loopvar)->val, item);
    try {
      for (const auto& statement : turns_.loop_->body) add(out, statement->execute(iteration));
    } catch (const jinja::continue_statement::signal&) {
    } catch (const jinja::break_statement::signal&) { return false; }
    return true;
  }

  // After turn `i`, before which `begun` parts were written and so many messages `needed`.
  void share(Beginning& one, const jinja::context& scope, const WatchedMessages& list, size_t i, size_t begun,
             size_t needed) {
    const bool all = one.messages == messages_.size();
    if (one.reply_header != header_ && turns_.header_inside_) return;
    if (!all && needed > one.messages) return;
    // Else this turn asked for what comes later, and is run again as the last.
    const bool as_it_was = all || looks_.needs <= one.messages;
    if (!as_it_was && !turns_.again_) return;
    auto parts = written_before(one, list);
    if (!parts) return;
    const auto kept = looks_;
    try {
      const auto from = out_.begin() + static_cast<std::ptrdiff_t>(before_);
      parts->insert(parts->end(), from,
                    as_it_was ? out_.end() : out_.begin() + static_cast<std::ptrdiff_t>(begun));
      looks_ = {1, one.messages};
      bool goes_on = true;
      if (!as_it_was) {
        const auto loop = jinja::mk_val<jinja::value_object>();
        fill_loop(*loop, list.all(), i, i + 1);
        goes_on = turn(scope, list.all()[i], loop, *parts);
      }
      jinja::context behind(context_);
      behind.set_val(kHeaderFlag, jinja::mk_val<jinja::value_bool>(one.reply_header));
      const auto& body = turns_.program_.body;
      for (size_t b = turns_.at_ + 1; b < body.size(); ++b) add(*parts, body[b]->execute(behind));
      if (goes_on && looks_.needs <= one.messages && has_room(*parts)) one.parts = std::move(parts);
    } catch (const std::exception&) {  // a rendering of its own says what is wrong
    }
    looks_ = kept;
  }

  // Long conversations of many answers would fill the child's memory.
  bool has_room(const TemplateParts& parts) {
    constexpr size_t kMostShared = size_t{64} << 20;
    for (const auto& part : parts) shared_ += part.val.size() + sizeof part;
    return shared_ <= kMostShared;
  }

  // What the template writes before the loop where there are no more messages than this.
  std::optional<TemplateParts> written_before(const Beginning& one, const WatchedMessages& list) {
    const bool same_flag = one.reply_header == header_ || !turns_.header_before_;
    if (same_flag && (one.messages == messages_.size() || needed_before_ <= one.messages))
      return TemplateParts(out_.begin(), out_.begin() + static_cast<std::ptrdiff_t>(before_));
    // It looked at later messages. Run again with fewer it may have come to the same: Qwen 3 looks for the
    // last question. Where it mostly has not, it is tried now and then.
    constexpr uint64_t kEnough = 32, kNowAndThen = 16;
    if (!turns_.again_) return std::nullopt;
    const auto tried = turns_.tried_++;
    if (tried >= kEnough && turns_.alike_ * 4 < tried && tried % kNowAndThen != 0) return std::nullopt;
    try {
      Looks looks;
      jinja::context context;
      TemplateParts parts;
      const auto flag = set_up(context, one.messages, looks, one.reply_header);
      for (size_t i = 0; i < turns_.at_; ++i) add(parts, turns_.program_.body[i]->execute(context));
      const auto given = turns_.loop_->iterable->execute(context);
      const auto* other = dynamic_cast<const WatchedMessages*>(given.get());
      if (!other || !other->belongs_to(looks) || other->first != list.first ||
          context.get_val(kHeaderFlag) != flag)
        return std::nullopt;
      Alike alike(turns_.macros_);
      for (const auto& name : turns_.names_)
        if (!alike(context_.get_val(name), context.get_val(name))) return std::nullopt;
      ++turns_.alike_;
      return parts;
    } catch (const std::exception&) { return std::nullopt; }
  }

  const TemplateTurns& turns_;
  const std::vector<jinja::value>& messages_;
  const bool header_;
  const Fill& fill_;
  std::vector<Beginning>& beginnings_;
  Looks looks_;  // before all that looks at it
  jinja::context context_;
  TemplateParts out_;
  size_t shared_ = 0;                      // bytes of beginnings
  size_t before_ = 0, needed_before_ = 1;  // parts, and messages, of what stands before the loop
};

std::optional<TemplateParts> TemplateTurns::run(const std::vector<jinja::value>& messages, bool reply_header,
                                                const Fill& fill, std::vector<Beginning>& beginnings) const {
  try {
    return Run(*this, messages, reply_header, fill, beginnings).whole();
  } catch (const std::exception&) {
    for (auto& one : beginnings) one.parts.reset();
    return std::nullopt;
  }
}

uint64_t put_parts(const TemplateParts& parts, std::string& out) {
  uint64_t bytes = 0;
  for (size_t i = 0; i < parts.size();) {
    const auto begin = i;
    uint32_t size = 0;
    for (; i < parts.size() && parts[i].is_input == parts[begin].is_input; ++i)
      size += static_cast<uint32_t>(parts[i].val.size());
    out += parts[begin].is_input ? 'g' : 't';
    out.append(reinterpret_cast<const char*>(&size), sizeof size);
    for (auto p = begin; p < i; ++p) out += parts[p].val;
    bytes += size;
  }
  return bytes;
}

}  // namespace retort
