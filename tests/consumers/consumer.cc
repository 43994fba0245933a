// SPDX-License-Identifier: MIT
//
// consumer.cc - a program of somebody else's, compiled as C++98 and as C++20
// against the installed library: the header must suit both, and os_* must
// serve the standard containers as well as plain calls.

#include <osmem.h>

#include <cstddef>
#include <cstring>
#include <new>
#include <vector>

template <class T> struct os_allocator {
	typedef T value_type;
	typedef T *pointer;
	typedef const T *const_pointer;
	typedef T &reference;
	typedef const T &const_reference;
	typedef std::size_t size_type;
	typedef std::ptrdiff_t difference_type;
	template <class U> struct rebind {
		typedef os_allocator<U> other;
	};

	os_allocator()
	{
	}
	template <class U> os_allocator(const os_allocator<U> &)
	{
	}
	T *allocate(std::size_t n)
	{
		void *p = os_calloc(n, sizeof(T));

		if (!p)
			throw std::bad_alloc();
		return static_cast<T *>(p);
	}
	void deallocate(T *p, std::size_t)
	{
		os_free(p);
	}
#if __cplusplus < 201103L
	std::size_t max_size() const
	{
		return std::size_t(-1) / sizeof(T);
	}
	void construct(T *p, const T &value)
	{
		new (p) T(value);
	}
	void destroy(T *p)
	{
		p->~T();
	}
#endif
};

template <class T, class U>
bool operator==(const os_allocator<T> &, const os_allocator<U> &)
{
	return true;
}

template <class T, class U>
bool operator!=(const os_allocator<T> &, const os_allocator<U> &)
{
	return false;
}

#if __cplusplus >= 202002L
#include <memory>
#include <string_view>

static bool use_modern()
{
	std::unique_ptr<char, decltype(&os_free)> copy(os_strdup("modern"),
						       &os_free);

	return copy && std::string_view(copy.get()) == "modern";
}
#else
static bool use_modern()
{
	return true;
}
#endif

int main()
{
	std::vector<int, os_allocator<int> > numbers;
	long sum = 0;

	for (int i = 0; i < 10000; i++)
		numbers.push_back(i);
	for (std::size_t i = 0; i < numbers.size(); i++)
		sum += numbers[i];
	if (sum != 49995000L || std::strcmp(os_version(), OSMEM_VERSION) != 0)
		return 1;
	return os_heap_check() != 0 || !use_modern();
}
