// SPDX-License-Identifier: GPL-2.0
/*
 * What the kernel offers to C only: macros and inline functions. Nothing here decides anything;
 * each function belongs to the Rust file beside it that declares it.
 */

#include <linux/anon_inodes.h>
#include <linux/cred.h>
#include <linux/debugfs.h>
#include <linux/irq_work.h>
#include <linux/poll.h>
#include <linux/sched/signal.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/tracepoint.h>
#include <linux/wait.h>
#include <linux/workqueue.h>

/* raw_lock.rs */
void pidlist_raw_spin_lock_init(raw_spinlock_t *lock);
void pidlist_raw_spin_lock_init(raw_spinlock_t *lock)
{
	raw_spin_lock_init(lock);
}

/* deferred.rs */
void pidlist_init_irq_work(struct irq_work *work, void (*func)(struct irq_work *));
void pidlist_init_irq_work(struct irq_work *work, void (*func)(struct irq_work *))
{
	init_irq_work(work, func);
}

void pidlist_init_work(struct delayed_work *work, work_func_t func);
void pidlist_init_work(struct delayed_work *work, work_func_t func)
{
	INIT_DELAYED_WORK(work, func);
}

void pidlist_schedule_work(struct delayed_work *work, unsigned int delay_ms);
void pidlist_schedule_work(struct delayed_work *work, unsigned int delay_ms)
{
	schedule_delayed_work(work, msecs_to_jiffies(delay_ms));
}

/* tracepoint.rs */
void pidlist_tracepoint_synchronize(void);
void pidlist_tracepoint_synchronize(void)
{
	tracepoint_synchronize_unregister();
}

/* chunks.rs */
struct kmem_cache *pidlist_cache_create(const char *name, unsigned int size);
struct kmem_cache *pidlist_cache_create(const char *name, unsigned int size)
{
	/* Not merged with a cache of like size: its own line in slabinfo shows what lists cost. */
	return kmem_cache_create(name, size, 0, SLAB_NO_MERGE, NULL);
}

/* task.rs: under rcu_read_lock */
struct task_struct *pidlist_next_process(struct task_struct *task);
struct task_struct *pidlist_next_process(struct task_struct *task)
{
	task = next_task(task);
	return task == &init_task ? NULL : task;
}

/* task.rs: under rcu_read_lock; the thread after `thread` of the same process */
struct task_struct *pidlist_next_thread(struct task_struct *thread);
struct task_struct *pidlist_next_thread(struct task_struct *thread)
{
	return __next_thread(thread);
}

void pidlist_cond_resched(void);
void pidlist_cond_resched(void)
{
	cond_resched();
}

/* file.rs: as if who opened `opener` opened this one, too */
struct file *pidlist_anon_inode_getfile(const char *name, const struct file_operations *fops,
					void *priv, int flags, const struct file *opener);
struct file *pidlist_anon_inode_getfile(const char *name, const struct file_operations *fops,
					void *priv, int flags, const struct file *opener)
{
	const struct cred *old = override_creds(opener->f_cred);
	struct file *file = anon_inode_getfile(name, fops, priv, flags);

	revert_creds(old);
	return file;
}

/* debugfs.rs */
static int pidlist_report_show(struct seq_file *file, void *unused)
{
	void (*const *write)(struct seq_file *file, const void *report) = file->private;

	(*write)(file, file->private);
	return 0;
}
/* With the module as the owner: an open file keeps it. */
DEFINE_SHOW_ATTRIBUTE(pidlist_report);

struct dentry *pidlist_debugfs_dir(const char *name);
struct dentry *pidlist_debugfs_dir(const char *name)
{
	return debugfs_create_dir(name, NULL);
}

/* `report` begins with the function that writes it. */
void pidlist_debugfs_file(const char *name, struct dentry *dir, void *report);
void pidlist_debugfs_file(const char *name, struct dentry *dir, void *report)
{
	debugfs_create_file(name, 0400, dir, report, &pidlist_report_fops);
}

void pidlist_debugfs_remove(struct dentry *dir);
void pidlist_debugfs_remove(struct dentry *dir)
{
	debugfs_remove(dir);
}

/* wait_queue.rs */
void pidlist_init_wait_queue(struct wait_queue_head *queue);
void pidlist_init_wait_queue(struct wait_queue_head *queue)
{
	init_waitqueue_head(queue);
}

void pidlist_wake_up(struct wait_queue_head *queue);
void pidlist_wake_up(struct wait_queue_head *queue)
{
	/* With the barrier that pairs with the one of a task that is about to sleep. */
	if (wq_has_sleeper(queue))
		wake_up_poll(queue, EPOLLIN | EPOLLRDNORM | EPOLLHUP);
}

int pidlist_wait_event(struct wait_queue_head *queue, bool (*condition)(void *), void *argument);
int pidlist_wait_event(struct wait_queue_head *queue, bool (*condition)(void *), void *argument)
{
	return wait_event_interruptible(*queue, condition(argument));
}
