// Values of the interpreter that note what of a conversation a template looks at.
#pragma once
#include <jinja/runtime.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace retort {

// Of a run over a whole conversation: with how many of its messages would it have seen the same so far?
struct Looks {
  static constexpr size_t kAll = SIZE_MAX;
  size_t needs = 1;     // with so many; kAll: with all of them alone
  size_t limit = kAll;  // what is run now is to see so many; kAll: as many as there are
  void at_least(size_t messages) { needs = std::max(needs, messages); }
  void at_all() { needs = kAll; }
};

// The messages from `first` on. Whatever is not asked for by an index or a slice counts as a look at all.
// Never empty: at least the message `first` is there for everybody who sees this list.
class WatchedMessages : public jinja::value_array_t {
 public:
  WatchedMessages(std::vector<jinja::value> some, size_t from, Looks& looks)
      : jinja::value_array_t(std::move(some)), first(from), looks_(&looks) {}
  const size_t first;

  bool belongs_to(const Looks& looks) const { return looks_ == &looks; }
  const std::vector<jinja::value>& all() const { return val_arr; }  // without a look

  const std::vector<jinja::value>& as_array() const override {
    looks_->at_all();
    return val_arr;
  }
  jinja::string as_string() const override {
    looks_->at_all();
    return jinja::value_array_t::as_string();
  }
  const jinja::func_builtins& get_builtins() const override {
    looks_->at_all();
    return jinja::value_array_t::get_builtins();
  }
  using jinja::value_t::at;
  jinja::value& at(int64_t index, jinja::value& otherwise) override {
    looks_->at_all();
    return jinja::value_array_t::at(index, otherwise);
  }
  jinja::value& at(int64_t index) override {
    looks_->at_all();
    return jinja::value_array_t::at(index);
  }
  jinja::value& at(const jinja::value& index, jinja::value& otherwise) override {
    looks_->at_all();
    return jinja::value_array_t::at(index, otherwise);
  }

  // As `messages[index]`.
  jinja::value item(int64_t index) const {
    const auto size = static_cast<int64_t>(seen());
    if (index < 0) {
      if (!limited()) looks_->at_all();
      index += size;
    }
    if (index < 0 || index >= size) return jinja::mk_val<jinja::value_undefined>("object_property");
    if (!limited()) looks_->at_least(first + static_cast<size_t>(index) + 1);
    return val_arr[static_cast<size_t>(index)];
  }
  // As `messages[begin:end]`, neither of them negative; no end: INT64_MAX.
  jinja::value part(int64_t begin, int64_t end) const {
    const auto size = static_cast<int64_t>(seen());
    const auto from = std::min(begin, size), to = std::max(std::min(end, size), from);
    const auto at_from = val_arr.begin() + from;
    if (limited() || from == size || end < size) {
      // What is asked for beyond the end is there for nobody, what is empty for all is empty for fewer too.
      if (!limited() && from < size) looks_->at_least(first + static_cast<size_t>(end));
      return jinja::mk_val<jinja::value_array>(std::vector<jinja::value>(at_from, val_arr.begin() + to));
    }
    looks_->at_least(first + static_cast<size_t>(from) + 1);
    return std::make_shared<WatchedMessages>(std::vector<jinja::value>(at_from, val_arr.end()),
                                             first + static_cast<size_t>(from), *looks_);
  }

 private:
  bool limited() const { return looks_->limit != Looks::kAll; }
  size_t seen() const {
    return limited() ? std::min(val_arr.size(), looks_->limit - std::min(looks_->limit, first))
                     : val_arr.size();
  }
  Looks* looks_;
};

// `loop` in the turn of message `message` (from 0): its end is what fewer messages would change.
class WatchedLoop : public jinja::value_object_t {
 public:
  WatchedLoop(size_t message, Looks& looks) : message_(message), looks_(&looks) {}

  using jinja::value_t::at;
  jinja::value& at(const jinja::value& key, jinja::value& otherwise) override {
    look(key);
    return jinja::value_object_t::at(key, otherwise);
  }
  jinja::value& at(const jinja::value& key) override {
    look(key);
    return jinja::value_object_t::at(key);
  }
  const std::vector<std::pair<jinja::value, jinja::value>>& as_ordered_object() const override {
    looks_->at_all();
    return val_obj;
  }
  jinja::string as_string() const override {
    looks_->at_all();
    return jinja::value_object_t::as_string();
  }
  bool is_hashable() const override {
    looks_->at_all();
    return jinja::value_object_t::is_hashable();
  }

 private:
  void look(const jinja::value& key) const {
    const auto name = key->as_string().str();
    if (name == "last" || name == "nextitem") looks_->at_least(message_ + 2);
    else if (name != "index" && name != "index0" && name != "first" && name != "previtem") looks_->at_all();
  }
  size_t message_;
  Looks* looks_;
};

// `name[...]`: of messages that are watched, what it looks at and no more.
class WatchedMember : public jinja::member_expression {
 public:
  explicit WatchedMember(jinja::member_expression& plain)
      : jinja::member_expression(std::move(plain.object), std::move(plain.property), true) {
    pos = plain.pos;
  }

  jinja::value execute_impl(jinja::context& context) const override {
    const auto list = object->execute(context);  // a name: to look it up again is the same
    const auto* messages = dynamic_cast<const WatchedMessages*>(list.get());
    if (messages) {
      if (const auto* slice = jinja::cast_stmt<jinja::slice_expression>(property)) {
        int64_t begin = 0, end = INT64_MAX;
        if (!slice->step_expr && bound(slice->start_expr, context, begin) &&
            bound(slice->stop_expr, context, end))
          return messages->part(begin, end);
      } else {
        const auto index = property->execute(context);
        if (jinja::is_val<jinja::value_int>(index)) return messages->item(index->as_int());
      }
    }
    return jinja::member_expression::execute_impl(context);
  }

 private:
  // False for one that is negative or no number.
  static bool bound(const jinja::statement_ptr& expression, jinja::context& context, int64_t& value) {
    if (!expression) return true;
    const auto found = expression->execute(context);
    if (!jinja::is_val<jinja::value_int>(found) || found->as_int() < 0) return false;
    value = found->as_int();
    return true;
  }
};

}  // namespace retort
